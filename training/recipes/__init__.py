"""One recipe a file. ``training.recipe`` says what a recipe is and loads them by name."""
