"""The recipes: one module for each prior system, and one for each recipe of this project.

A module's docstring states what its recipes share and how they differ from their source. Its ``RECIPES`` are
entries of ``training.catalogue``.
"""
