"""Evaluated runs side by side: one table, paired differences, and their pictures on one page."""
