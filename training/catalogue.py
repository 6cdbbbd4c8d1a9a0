"""The recipes that come with the project, found by name."""

import importlib
import pkgutil
import runpy
from itertools import groupby
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


_HEAD = """\
# Recipes

Written by `python -m training recipes --markdown` from the docstrings in `training/recipes`, which say more:
what each system did, what it left open, and where the recipe knowingly differs from it.

    python -m training run --recipe NAME --data DIR --out runs/FOLDER

trains, calibrates, scores and exports any of them; the service loads `runs/FOLDER/bundle`. The published
figures come from splits by image, where photographs of one lesion lie on both sides; they flatter, and cannot
be compared with figures measured here on a split by lesion."""


def recipe_page() -> str:
    """The page in Markdown: a table for each published system, a row for each recipe."""
    parts = [_HEAD]
    for system, names in groupby(sorted(recipe_names(), key=_by_system), key=_system):
        parts += [
            _title(system),
            "| recipe | what it is | published | measured here |\n| --- | --- | --- | --- |\n"
            + "\n".join(_row(name) for name in names),
        ]
    return "\n\n".join(parts) + "\n"


def published_figures(text: str) -> str:
    """What a recipe's docstring says was published; empty if nothing was."""
    found = _after(text, "Published, on a split by image (it flatters): ")
    return found.partition(" Measured here:")[0].rstrip(".")


def measured_figures(text: str) -> str:
    """What a recipe's docstring says was measured here, its first sentence."""
    found = _after(text, "Measured here: ") or _after(text, "Measured, ")
    return found.partition(". ")[0].rstrip(".")


def _after(text: str, start: str) -> str:
    """The rest of the paragraph after ``start``, on one line."""
    for paragraph in text.split("\n\n"):
        _, found, rest = " ".join(paragraph.split()).partition(start)
        if found:
            return rest
    return ""


def _by_system(name: str) -> tuple[str, str]:
    return _system(name), name


def _system(name: str) -> str:
    return name.rpartition("/")[0]


def _title(system: str) -> str:
    if not system:
        return "## This project"
    package = importlib.import_module(f"{training.recipes.__name__}.{system}")
    return f"## {(package.__doc__ or system).strip().rstrip('.')}"


def _row(name: str) -> str:
    text = recipe_text(name)
    cells = (f"`{name}`", text.splitlines()[0].rstrip("."), published_figures(text), measured_figures(text))
    return f"| {' | '.join(cell or '–' for cell in cells)} |"
