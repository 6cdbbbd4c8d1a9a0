"""Evaluates trained runs: the report, cross-validation and comparisons."""
