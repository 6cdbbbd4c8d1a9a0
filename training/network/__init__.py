"""Keras networks, as a recipe describes them."""
