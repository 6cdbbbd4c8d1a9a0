"""The recipes that come with the project, found by name."""

import importlib
import pkgutil
import runpy
from pathlib import Path

import training.recipes
from training.recipe import Recipe, RecipeError

_PREFIX = "training.recipes."


def recipe_names() -> list[str]:
    """Names of all recipes: ``file``, or ``system/file`` for those of a published system."""
    found = pkgutil.walk_packages(training.recipes.__path__, _PREFIX)
    return sorted(
        module.name.removeprefix(_PREFIX).replace(".", "/")
        for module in found
        if not module.ispkg and not module.name.rpartition(".")[2].startswith("_")
    )


def load_recipe(name: str) -> Recipe:
    """The recipe in ``training/recipes/<name>.py``, or in the file ``name`` if that ends in ``.py``.

    Raises:
        RecipeError: there is none of that name, or the file holds no recipe.
    """
    if name.endswith(".py"):
        if not Path(name).is_file():
            raise RecipeError(f"{name}: no such recipe file")
        recipe = runpy.run_path(name).get("RECIPE")
    elif name in recipe_names():
        recipe = getattr(_module(name), "RECIPE", None)
    else:
        raise RecipeError(f"no recipe {name!r}; there are {', '.join(recipe_names())}")
    if not isinstance(recipe, Recipe):
        raise RecipeError(f"{name}: RECIPE is not a Recipe")
    return recipe


def recipe_text(name: str) -> str:
    """The docstring of a recipe: what it is, its command and its figures."""
    return _module(name).__doc__ or ""


def _module(name: str) -> object:
    return importlib.import_module(_PREFIX + name.replace("/", "."))
