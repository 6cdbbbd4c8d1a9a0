"""Scores of trained runs: the report, cross-validation and comparisons."""
