"""What a recipe is: every choice that makes a model, as plain data.

A recipe is a Python file in ``training/recipes`` that holds ``RECIPE = Recipe(...)`` and a
docstring with its command and its measured figures.
"""

import importlib
import math
import pkgutil
import runpy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import training.recipes
from models.errors import DermaserveError


class RecipeError(DermaserveError):
    """A recipe or an option that changes it is not usable."""


@dataclass(frozen=True)
class Augmentation:
    """Random changes of each training image, drawn anew every time it is seen.

    Dermatoscopic images have no up and no left, so the eight symmetries of the square are free.
    """

    dihedral: bool = True
    min_crop: float = 0.8  # smallest share of the area that a crop keeps
    rotation: float = 0.0  # degrees, to either side
    stretch: float = 0.0  # largest relative change of the aspect ratio
    brightness: float = 0.1  # largest shift, as a share of the full range
    contrast: float = 0.1  # largest relative change of the distance from the mean
    color: float = 0.05  # largest relative gain of a single channel


@dataclass(frozen=True)
class Phase:
    """One stretch of training with one set of trainable layers and one learning-rate schedule."""

    trainable: int | Literal["head", "all"]  # a number: the backbone's last so many layers
    epochs: int
    learning_rate: float
    schedule: Literal["constant", "plateau", "cosine"] = "plateau"
    image_size: int | None = None  # None: the recipe's; smaller is faster, for the early epochs
    plateau_patience: int = 3  # epochs without gain before the rate is multiplied by plateau_factor
    plateau_factor: float = 0.3
    stop_patience: int = 10  # epochs without gain before the phase ends
    warmup: float = 0.1  # share of the steps with a rising rate (cosine only)


@dataclass(frozen=True)
class MemberRecipe:
    """One network: backbone → features → global average pooling → dropout → one dense layer."""

    name: str
    backbone: Literal["mobilenet_v2", "efficientnet_b1"]
    weight: float  # share in the ensemble's mean of probabilities
    phases: tuple[Phase, ...]
    dropout: float = 0.3
    starting_weights: str = "imagenet"  # or "none", or the path of a .weights.h5 file of the backbone
    feature_scale: float = 1.0  # factor on the backbone's features, for weights of unusual scale
    augmentation: Augmentation | None = None  # None: the recipe's


@dataclass(frozen=True)
class Recipe:
    """A complete recipe; ``name`` is that of its file."""

    name: str
    members: tuple[MemberRecipe, ...]
    image_size: int = 224
    batch_size: int = 32
    # Keras' CategoricalFocalCrossentropy; gamma 0 makes it plain cross entropy.
    focal_gamma: float = 0.0
    # Loss weight of a class ∝ n ** -class_weight_power, mean 1 over the images; 0 for none.
    class_weight_power: float = 0.0
    # Draws of a class per epoch ∝ n ** sampling_power; 1 draws the data as it is.
    sampling_power: float = 1.0
    epoch_size: float = 1.0  # draws of an epoch, as a multiple of the number of training images
    weight_decay: float = 0.0
    # Share of the old average that each step's exponential moving average of the weights keeps; 0 for none.
    ema: float = 0.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    # Which validation figure picks the best epoch, and in which direction it improves.
    monitor: Literal["loss", "balanced_accuracy"] = "loss"
    # What of the malignant images the operating point must find on validation data.
    target_sensitivity: float = 0.97

    def __post_init__(self) -> None:
        if not 0 < self.epoch_size < math.inf:
            raise RecipeError(f"{self.name}: epoch_size must be above 0, got {self.epoch_size}")
        if abs(sum(member.weight for member in self.members) - 1) > 1e-6:
            raise RecipeError(f"{self.name}: the members' weights must sum to 1")

    def member(self, name: str) -> MemberRecipe:
        """The member called ``name``; RecipeError if there is none."""
        for member in self.members:
            if member.name == name:
                return member
        names = ", ".join(member.name for member in self.members)
        raise RecipeError(f"{self.name} has no member {name!r}; its members are {names}")


def recipe_names() -> list[str]:
    """Names of all recipes."""
    return sorted(module.name for module in pkgutil.iter_modules(training.recipes.__path__))


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
        recipe = getattr(importlib.import_module(f"training.recipes.{name}"), "RECIPE", None)
    else:
        raise RecipeError(f"no recipe {name!r}; there are {', '.join(recipe_names())}")
    if not isinstance(recipe, Recipe):
        raise RecipeError(f"{name}: RECIPE is not a Recipe")
    return recipe


def adjust(
    recipe: Recipe,
    *,
    loss: Literal["focal", "cross_entropy"] | None = None,
    image_size: int | None = None,
    max_epochs: int | None = None,
    batch_size: int | None = None,
    epoch_size: float | None = None,
    starting_weights: dict[str, str] | None = None,
    feature_scale: dict[str, float] | None = None,
) -> Recipe:
    """A copy of ``recipe`` with the options of the command line applied; None keeps a value.

    Args:
        recipe: the recipe as written.
        loss: ``"cross_entropy"`` turns focusing, class weights and balanced draws off, ``"focal"``
            asks for the deck's (gamma 1.5, weights inverse to frequency, plain draws).
        image_size: for every phase and the exported model.
        max_epochs: upper bound on the epochs of each phase.
        batch_size, epoch_size: as in Recipe.
        starting_weights, feature_scale: by member name.
    """
    for name in (starting_weights or {}) | (feature_scale or {}):
        recipe.member(name)
    members = []
    for member in recipe.members:
        phases = tuple(
            replace(
                phase,
                epochs=min(phase.epochs, max_epochs or phase.epochs),
                image_size=None if image_size else phase.image_size,
            )
            for phase in member.phases
        )
        weights = (starting_weights or {}).get(member.name, member.starting_weights)
        scale = (feature_scale or {}).get(member.name, member.feature_scale)
        members.append(replace(member, phases=phases, starting_weights=weights, feature_scale=scale))
    changed = replace(
        recipe,
        members=tuple(members),
        image_size=image_size or recipe.image_size,
        batch_size=batch_size or recipe.batch_size,
        epoch_size=recipe.epoch_size if epoch_size is None else epoch_size,
    )
    if loss == "cross_entropy":
        changed = replace(changed, focal_gamma=0.0, class_weight_power=0.0, sampling_power=1.0)
    elif loss == "focal":
        changed = replace(changed, focal_gamma=1.5, class_weight_power=1.0, sampling_power=1.0)
    return changed
