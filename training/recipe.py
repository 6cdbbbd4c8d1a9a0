"""What a recipe is: every choice that makes a model, as plain data.

``training.catalogue`` finds the recipes of the project by name. A recipe of your own is a Python file that
holds ``RECIPE = Recipe(...)``.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from models.errors import DermaserveError
from models.preprocess import Color
from training.data.dataset import Task


class RecipeError(DermaserveError):
    """A recipe or an option that changes it is not usable."""


@dataclass(frozen=True)
class Augmentation:
    """Random changes of each training image, drawn anew every time it is seen; by default none.

    Dermatoscopic images have no up and no left, so the eight symmetries of the square are free.
    """

    dihedral: bool = False  # quarter turns and mirror images
    flips: bool = False  # left-right and top-bottom, without turns
    min_crop: float = 1.0  # smallest share of the area that a crop keeps
    rotation: float = 0.0  # degrees, to either side
    stretch: float = 0.0  # largest relative change of the aspect ratio
    zoom: float = 0.0  # largest relative change of the scale, in or out
    shear: float = 0.0  # degrees, to either side
    shift: float = 0.0  # largest shift, as a share of the side
    brightness: float = 0.0  # largest shift, as a share of the full range
    contrast: float = 0.0  # largest relative change of the distance from the mean
    color: float = 0.0  # largest relative gain of a single channel
    saturation: float = 0.0  # largest relative change of the distance from grey
    hue: float = 0.0  # degrees, to either side, about the grey axis
    # The next two need ``picture_size``.
    min_resolution: float = 1.0  # smallest factor by which a crop is reduced before it is enlarged again
    min_quality: int = 100  # lowest JPEG quality that a crop is saved at; 100 for none


@dataclass(frozen=True)
class Phase:
    """One stretch of training with one set of trainable layers and one learning-rate schedule."""

    trainable: int | Literal["head", "all"]  # a number: the backbone's last so many layers
    epochs: int
    learning_rate: float
    schedule: Literal["constant", "plateau", "cosine"] = "plateau"
    image_size: int | None = None  # None: the member's; smaller is faster, for the early epochs
    plateau_patience: int = 3  # epochs without gain before the rate is multiplied by plateau_factor
    plateau_factor: float = 0.3
    stop_patience: int = 10  # epochs without gain before the phase ends; a cosine runs to its end
    warmup: float = 0.1  # share of the steps with a rising rate (cosine only)


@dataclass(frozen=True)
class Block:
    """Some convolutions of one width, then 2 × 2 pooling, then dropout."""

    filters: int
    convolutions: int = 1
    dropout: float = 0.0


@dataclass(frozen=True)
class ScratchCNN:
    """A plain network without pretrained weights: blocks of ReLU convolutions."""

    blocks: tuple[Block, ...]
    kernel: int = 3
    pooling: Literal["max", "average"] = "max"
    initializer: Literal["glorot_uniform", "he_normal", "random_uniform"] = "glorot_uniform"


@dataclass(frozen=True)
class VisionTransformer:
    """ViT (Dosovitskiy et al., ICLR 2021) whose patch tokens are averaged; the default is B/32."""

    patch: int = 32
    depth: int = 12
    width: int = 768
    heads: int = 12


@dataclass(frozen=True)
class Pixels:
    """No backbone: the head reads the scaled pixels themselves."""

    # A dataclass without fields could not be told from the others when a recipe is read from JSON.
    kind: Literal["pixels"] = "pixels"


Pretrained = Literal[
    "densenet121",
    "efficientnet_b0",
    "efficientnet_b1",
    "inception_resnet_v2",
    "inception_v3",
    "mobilenet",
    "mobilenet_v2",
    "resnet50",
    "vgg19",
    "xception",
]
"""Backbones of ``keras.applications``, with ImageNet weights."""


@dataclass(frozen=True)
class Head:
    """What follows the last feature map: pooling, hidden layers, dropout, one dense layer."""

    pooling: Literal["average", "flatten"] = "average"
    batch_norm: bool = False  # right after pooling
    hidden: tuple[int, ...] = ()  # widths of dense ReLU layers
    dropout: float = 0.3  # after each hidden layer; after pooling where there is none
    l2: float = 0.0  # penalty on the kernels of the head's dense layers


@dataclass(frozen=True)
class MemberRecipe:
    """One network: image → scaling → backbone → features → head → logits."""

    name: str
    backbone: Pretrained | ScratchCNN | VisionTransformer | Pixels
    phases: tuple[Phase, ...]
    weight: float = 1.0  # share in the mean of probabilities, where the recipe fixes the weights
    head: Head = field(default_factory=Head)
    # "backbone": what its ImageNet weights expect, /255 where there are none; "unit": /255;
    # "z_score": mean and deviation of the training pixels, channel by channel.
    scaling: Literal["backbone", "unit", "z_score"] = "backbone"
    starting_weights: str = "imagenet"  # or "none", or the path of a .weights.h5 file of the backbone
    feature_scale: float = 1.0  # factor on the backbone's features, for weights of unusual scale
    # Side in pixels, for a member that needs less than the others: trained at it, it scales the images
    # of the model's input down itself. None: the recipe's.
    image_size: int | None = None
    augmentation: Augmentation | None = None  # None: the recipe's
    classes: tuple[str, ...] = ()  # a specialist's; trained on images of these alone. Empty: all


@dataclass(frozen=True)
class Recipe:
    """A complete recipe; ``name`` is that of its file, with its folder."""

    name: str
    members: tuple[MemberRecipe, ...]
    # "mean" of probabilities, majority "vote" (ties: first label), or "specialists" that decide again
    # where the first member's two most probable classes are theirs.
    combination: Literal["mean", "vote", "specialists"] = "mean"
    # Weights of the mean: as the members say, ∝ accuracy, or from a coarse grid; the last two on
    # validation predictions.
    weighting: Literal["fixed", "accuracy", "grid"] = "fixed"
    task: Task = "diagnosis"
    sites: tuple[str, ...] = ()  # train and measure on images of these localizations alone; empty: all
    image_size: int | tuple[int, int] = 224  # pixels; a side, or height and width
    # Height and width of the pictures that crops are cut from; None: from the model's input, which is
    # the centre of each picture, scaled already.
    picture_size: tuple[int, int] | None = None
    color: Color = "rgb"
    batch_size: int = 32
    # Keras' CategoricalFocalCrossentropy; gamma 0 makes it plain cross entropy.
    focal_gamma: float = 0.0
    # Loss weight of a class ∝ n ** -class_weight_power, mean 1 over the images; 0 for none.
    class_weight_power: float = 0.0
    # Draws of a class per epoch ∝ n ** sampling_power; 1 draws the data as it is, 0 all classes alike.
    sampling_power: float = 1.0
    epoch_size: float = 1.0  # draws of an epoch, as a multiple of the number of training images
    optimizer: Literal["adamw", "adam", "adamax", "nadam", "rmsprop", "sgd"] = "adamw"
    weight_decay: float = 0.0
    clip_norm: float = 1.0  # of all gradients together; 0 for none
    # Share of the old average that each step's exponential moving average of the weights keeps, less in the
    # first steps of a phase; 0 for none.
    ema: float = 0.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    # Which validation figure picks the best epoch. The loss is the cross entropy after temperature scaling,
    # at the training data's prevalence; the macro loss is that at equal prevalence of all classes.
    monitor: Literal["loss", "macro_loss", "balanced_accuracy"] = "loss"
    # Sensitivity that the operating point must reach on validation data.
    target_sensitivity: float = 0.97

    def __post_init__(self) -> None:
        if not 0 < self.epoch_size < math.inf:
            raise RecipeError(f"{self.name}: epoch_size must be above 0, got {self.epoch_size}")
        fixed = self.combination == "mean" and self.weighting == "fixed"
        if fixed and abs(sum(member.weight for member in self.members) - 1) > 1e-6:
            raise RecipeError(f"{self.name}: the members' weights must sum to 1")
        if len({member.name for member in self.members}) < len(self.members):
            raise RecipeError(f"{self.name}: the members' names must differ")
        for member in self.members:
            if member.image_size and not 1 <= member.image_size <= min(self.size):
                raise RecipeError(
                    f"{self.name}: image_size of {member.name} must be from 1 to the model's, "
                    f"{min(self.size)}, got {member.image_size}"
                )
            augmentation = member.augmentation or self.augmentation
            if self.picture_size is None and (
                augmentation.min_resolution < 1 or augmentation.min_quality < 100
            ):
                raise RecipeError(f"{self.name}: min_resolution and min_quality need picture_size")
        specialists = [bool(member.classes) for member in self.members]
        expected = [self.combination == "specialists" and index > 0 for index in range(len(self.members))]
        if specialists != expected:
            raise RecipeError(
                f"{self.name}: with the combination 'specialists' all members but the first name their "
                "classes, with any other none does"
            )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the model's input, in pixels."""
        return self.image_size if isinstance(self.image_size, tuple) else (self.image_size, self.image_size)

    @property
    def channels(self) -> int:
        """3 for RGB, 1 for grey."""
        return 3 if self.color == "rgb" else 1

    def member(self, name: str) -> MemberRecipe:
        """The member called ``name``; RecipeError if there is none."""
        for member in self.members:
            if member.name == name:
                return member
        names = ", ".join(member.name for member in self.members)
        raise RecipeError(f"{self.name} has no member {name!r}; its members are {names}")

    def member_size(self, member: MemberRecipe) -> tuple[int, int]:
        """Height and width that ``member`` sees, in pixels."""
        return (member.image_size, member.image_size) if member.image_size else self.size

    def phase_size(self, member: MemberRecipe, phase: Phase) -> tuple[int, int]:
        """Height and width of the images in ``phase`` of ``member``."""
        return (phase.image_size, phase.image_size) if phase.image_size else self.member_size(member)


def adjust(
    recipe: Recipe,
    *,
    loss: Literal["focal", "cross_entropy"] | None = None,
    color: Color | None = None,
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
        image_size: for every phase, every member and the exported model.
        max_epochs: upper bound on the epochs of each phase.
        color, batch_size, epoch_size: as in Recipe.
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
        smaller = None if image_size else member.image_size
        members.append(
            replace(member, phases=phases, starting_weights=weights, feature_scale=scale, image_size=smaller)
        )
    changed = replace(
        recipe,
        members=tuple(members),
        color=color or recipe.color,
        image_size=image_size or recipe.image_size,
        batch_size=batch_size or recipe.batch_size,
        epoch_size=recipe.epoch_size if epoch_size is None else epoch_size,
    )
    if loss == "cross_entropy":
        changed = replace(changed, focal_gamma=0.0, class_weight_power=0.0, sampling_power=1.0)
    elif loss == "focal":
        changed = replace(changed, focal_gamma=1.5, class_weight_power=1.0, sampling_power=1.0)
    return changed
