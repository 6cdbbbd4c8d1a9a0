"""The recipes that come with the project: found by name, and described on ``docs/recipes.md``."""

import inspect
import runpy
from pathlib import Path
from types import ModuleType

from training.markdown import NONE, table
from training.recipe import Recipe, RecipeError
from training.recipes import (
    benign_malignant,
    cnn_from_scratch,
    ham10000_ensemble,
    mobilenet_efficientnet,
    quick,
    three_networks,
    transfer_learning,
)
from training.recipes.entry import Entry

OWN = (ham10000_ensemble, quick)
PRIOR_SYSTEMS = (
    mobilenet_efficientnet,
    three_networks,
    transfer_learning,
    cnn_from_scratch,
    benign_malignant,
)

_FORMER_NAMES = {
    "deck": "mobilenet_efficientnet",
    "report": "three_networks",
    "transfer": "transfer_learning",
    "keras_cnn": "cnn_from_scratch",
}
"""What the prior systems were called before; commands and notes that name them go on working."""

CATALOGUE: dict[str, Entry] = {
    entry.recipe.name: entry for module in (*OWN, *PRIOR_SYSTEMS) for entry in module.RECIPES
}
"""Every recipe by its name: that of its module, or ``system/name`` for those of a prior system."""

_HEAD = """\
# Recipes

`python -m training recipes --markdown` writes this page from `training/recipes`.

    python -m training run --recipe NAME --data DIR --out runs/FOLDER

trains, calibrates, scores and exports any of them; the service loads `runs/FOLDER/bundle`. The published
figures come from splits by image, where photographs of one lesion lie on both sides: they are too high to be
compared with figures measured here on a split by lesion."""


def load_recipe(name: str) -> Recipe:
    """The recipe called ``name``, or the ``RECIPE`` in the file ``name`` if that ends in ``.py``.

    Raises:
        RecipeError: there is no such recipe or file, or the file holds no recipe.
    """
    if not name.endswith(".py"):
        return find_entry(name).recipe
    if not Path(name).is_file():
        raise RecipeError(f"{name}: no such recipe file")
    recipe = runpy.run_path(name).get("RECIPE")
    if not isinstance(recipe, Recipe):
        raise RecipeError(f"{name}: RECIPE is not a Recipe")
    return recipe


def find_entry(name: str) -> Entry:
    """The entry of the recipe called ``name`` now, or called so in the past.

    Raises:
        RecipeError: there is none.
    """
    system, slash, rest = name.partition("/")
    entry = CATALOGUE.get(f"{_FORMER_NAMES.get(system, system)}{slash}{rest}")
    if entry is None:
        raise RecipeError(f"no recipe {name!r}; there are {', '.join(CATALOGUE)}")
    return entry


def catalogue_page() -> str:
    """The page in Markdown: a section for each prior system, a row for each recipe."""
    parts = [_HEAD, "## This project", *_rows(*OWN)]
    for module in PRIOR_SYSTEMS:
        title, _, text = inspect.cleandoc(module.__doc__ or "").partition("\n\n")
        parts += [f"## {title.rstrip('.')}", text, *_rows(module)]
    return "\n\n".join(parts) + "\n"


def _rows(*modules: ModuleType) -> list[str]:
    """The table of all recipes in ``modules``; columns that would be empty are left out."""
    titles = ("recipe", "what it is", "chosen here", "published", "measured here")
    rows = [
        (
            f"`{entry.recipe.name}`",
            entry.summary,
            entry.choices,
            entry.published.text() if entry.published else "",
            entry.measured,
        )
        for module in modules
        for entry in module.RECIPES
    ]
    used = [column for column in range(len(titles)) if any(row[column] for row in rows)]
    cells = [[row[column] or NONE for column in used] for row in rows]
    return ["\n".join(table([titles[column] for column in used], cells)).strip()]
