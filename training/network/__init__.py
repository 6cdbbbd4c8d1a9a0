"""Builds the Keras networks that a recipe describes."""
