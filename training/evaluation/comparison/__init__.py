"""Compares evaluated runs on one page: a table, paired differences, and plots."""
