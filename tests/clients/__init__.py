"""Clients of the service that run in environments of their own."""
