"""Clients generated from the OpenAPI document that need an environment of their own."""
