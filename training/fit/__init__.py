"""Trains one member."""
