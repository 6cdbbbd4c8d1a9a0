"""The project's recipes: found by name, and described in ``docs/recipes.md``."""

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
"""Former names of the prior systems, which remain valid."""

CATALOGUE: dict[str, Entry] = {
    entry.recipe.name: entry for module in (*OWN, *PRIOR_SYSTEMS) for entry in module.RECIPES
}
"""All recipes by name: that of the module, or ``system/name`` for recipes of a prior system."""

_HEAD = """\
# Recipes

`python -m training recipes --markdown` writes this page from `training/recipes`.

    python -m training run --recipe NAME --data DIR --out runs/FOLDER

trains, calibrates, evaluates and exports a recipe; the service loads `runs/FOLDER/bundle`. The published
metrics come from splits by image, where images of one lesion are in both training and test data. They are too
high to be compared with metrics measured here on a split by lesion. What was measured here is of the most
probable class, and states its split, its schedule and its command; intervals are 95 %."""

_OWN = "[The training log](training-log.md) has the metrics of these recipes."


def load_recipe(name: str) -> Recipe:
    """Return the recipe called ``name``, or the ``RECIPE`` in the file ``name`` if it ends in ``.py``.

    Raises:
        RecipeError: there is no such recipe or file, or the file contains no recipe.
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
    """Return the entry of the recipe with the current or former name ``name``.

    Raises:
        RecipeError: there is no such recipe.
    """
    system, slash, rest = name.partition("/")
    entry = CATALOGUE.get(f"{_FORMER_NAMES.get(system, system)}{slash}{rest}")
    if entry is None:
        raise RecipeError(f"no recipe {name!r}; expected one of {', '.join(CATALOGUE)}")
    return entry


def catalogue_page() -> str:
    """Return ``docs/recipes.md``: a section for each prior system, a row for each recipe."""
    parts = [_HEAD, "## This project", _OWN, *_rows(*OWN)]
    for module in PRIOR_SYSTEMS:
        title, _, text = inspect.cleandoc(module.__doc__ or "").partition("\n\n")
        parts += [f"## {title.rstrip('.')}", text, *_rows(module)]
    return "\n\n".join(parts) + "\n"


def _rows(*modules: ModuleType) -> list[str]:
    """Return the table of all recipes in ``modules``, without empty columns, and the commands of runs."""
    titles = ("recipe", "description", "chosen here", "published", "measured here")
    rows = [
        (
            f"`{entry.recipe.name}`",
            entry.summary,
            entry.choices,
            entry.published.text() if entry.published else "",
            "; ".join(run.text() for run in entry.measured),
        )
        for module in modules
        for entry in module.RECIPES
    ]
    used = [column for column in range(len(titles)) if any(row[column] for row in rows)]
    cells = [[row[column] or NONE for column in used] for row in rows]
    blocks = ["\n".join(table([titles[column] for column in used], cells)).strip()]
    commands = [
        f"- `{entry.recipe.name}`, by {run.split_by}: `{run.command}`"
        for module in modules
        for entry in module.RECIPES
        for run in entry.measured
    ]
    return [*blocks, "Measured with:", "\n".join(commands)] if commands else blocks
