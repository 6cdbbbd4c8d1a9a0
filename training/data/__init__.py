"""Reads, describes and splits the data set."""
