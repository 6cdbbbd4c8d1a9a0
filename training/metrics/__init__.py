"""Figures of predictions and their intervals."""
