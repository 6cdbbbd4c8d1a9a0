"""Calibrates trained members and fits the safeguards, on training and validation images only."""
