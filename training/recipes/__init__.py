"""The recipes, one module for each prior system and for each recipe of this project's own.

A module's docstring says what its recipes share and where they knowingly differ from their source; its
``RECIPES`` are entries of the catalogue, ``training.catalogue``.
"""
