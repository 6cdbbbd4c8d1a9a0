"""Scoring files without a server: found, read, scored by the service's own classifier, written as rows."""
