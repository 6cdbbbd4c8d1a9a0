"""The fields of a recipe: everything that defines how a model is trained, as plain data.

``training.catalogue`` finds the project's recipes by name. A recipe of your own is a Python file with
``RECIPE = Recipe(...)``.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from models.errors import DermaserveError
from models.scaling import Color
from training.data.dataset import Task


class RecipeError(DermaserveError):
    """A recipe, or an option that changes it, cannot be used."""


@dataclass(frozen=True)
class Augmentation:
    """Random changes of each training image, drawn every time it is used; none by default.

    Dermatoscopic images have no natural orientation, so the eight symmetries of the square do not change
    their meaning.
    """

    dihedral: bool = False  # quarter turns and mirror images
    flips: bool = False  # left-right and top-bottom, without quarter turns
    min_crop: float = 1.0  # smallest share of the area that a crop keeps
    rotation: float = 0.0  # degrees, in both directions
    stretch: float = 0.0  # largest relative change of the aspect ratio
    zoom: float = 0.0  # largest relative change of the scale, in or out
    shear: float = 0.0  # degrees, in both directions
    shift: float = 0.0  # largest shift, as a share of the side
    brightness: float = 0.0  # largest shift, as a share of the full range
    contrast: float = 0.0  # largest relative change of the distance from the mean
    color: float = 0.0  # largest relative change of a single channel
    saturation: float = 0.0  # largest relative change of the distance from grey
    hue: float = 0.0  # degrees, in both directions, about the grey axis
    # The next two need ``picture_size``.
    min_resolution: float = 1.0  # smallest factor by which a crop is reduced and enlarged again
    min_quality: int = 100  # lowest JPEG quality with which a crop is compressed; 100 for no compression


@dataclass(frozen=True)
class Phase:
    """A phase of training with one set of trainable layers and one learning rate schedule."""

    trainable: int | Literal["head", "all"]  # a number n: the last n layers of the backbone, and the head
    epochs: int
    learning_rate: float
    schedule: Literal["constant", "plateau", "cosine"] = "plateau"
    image_size: int | None = None  # pixels; None: the member's. Smaller images are faster
    plateau_patience: int = 3  # epochs without improvement before the rate is multiplied by plateau_factor
    plateau_factor: float = 0.3
    min_learning_rate: float = 0.0  # a plateau reduces the rate no further
    stop_patience: int = 10  # epochs without improvement before the phase ends; not with "cosine"
    warmup: float = 0.1  # share of the steps with an increasing rate ("cosine" only)


@dataclass(frozen=True)
class Block:
    """Convolutions with equal numbers of filters, then pooling, then dropout."""

    filters: int
    convolutions: int = 1
    dropout: float = 0.0


@dataclass(frozen=True)
class ScratchCNN:
    """A plain network without pretrained weights: blocks of ReLU convolutions."""

    blocks: tuple[Block, ...]
    kernel: int = 3
    pooling: Literal["max", "average"] = "max"
    pool_size: int = 2  # side and stride of the pooling, in pixels
    initializer: Literal["glorot_uniform", "he_normal", "random_uniform"] = "glorot_uniform"


@dataclass(frozen=True)
class VisionTransformer:
    """A ViT (Dosovitskiy et al., ICLR 2021) with averaged patch tokens; the default is ViT-B/32."""

    patch: int = 32
    depth: int = 12
    width: int = 768
    heads: int = 12


@dataclass(frozen=True)
class Pixels:
    """No backbone: the head reads the scaled pixels."""

    # Without a field, the class could not be recognised when a recipe is read from JSON.
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
    "vgg16",
    "vgg19",
    "xception",
]
"""Backbones of ``keras.applications``, with or without ImageNet weights."""


@dataclass(frozen=True)
class Head:
    """The layers after the last feature map: pooling, hidden layers, dropout, one dense layer."""

    pooling: Literal["average", "flatten"] = "average"
    batch_norm: bool = False  # after pooling
    hidden: tuple[int, ...] = ()  # numbers of units of dense ReLU layers
    dropout: float = 0.3  # before the last dense layer
    l2: float = 0.0  # penalty on the kernels of the head's dense layers


@dataclass(frozen=True)
class MemberRecipe:
    """One network: image → scaling → backbone → features → head → logits."""

    name: str
    backbone: Pretrained | ScratchCNN | VisionTransformer | Pixels
    phases: tuple[Phase, ...]
    weight: float = 1.0  # share in the mean of probabilities, with the weighting "fixed"
    head: Head = field(default_factory=Head)
    # "backbone": as the backbone's ImageNet weights expect, /255 for other backbones; "unit": /255;
    # "z_score": by mean and standard deviation of all values of the training pixels.
    scaling: Literal["backbone", "unit", "z_score"] = "backbone"
    starting_weights: str = "imagenet"  # or "none", or the path of a .weights.h5 file of the backbone
    feature_scale: float = 1.0  # factor on the backbone's features, for weights with an unusual scale
    # Side in pixels, for a member that needs smaller images than the others. The member scales the images
    # of the model's input down. None: the recipe's.
    image_size: int | None = None
    augmentation: Augmentation | None = None  # None: the recipe's
    classes: tuple[str, ...] = ()  # of a specialist, which is trained on images of these classes only


@dataclass(frozen=True)
class Recipe:
    """A complete recipe; ``name`` is its name in the catalogue."""

    name: str
    members: tuple[MemberRecipe, ...]
    # "mean" of probabilities, majority "vote", or "specialists", which decide again between two classes that
    # the first member may have confused; see training.calibration.combination.
    combination: Literal["mean", "vote", "specialists"] = "mean"
    # Weights of the mean: the members' own, proportional to accuracy, or from a coarse grid. The last two are
    # fitted on validation data.
    weighting: Literal["fixed", "accuracy", "grid"] = "fixed"
    task: Task = "diagnosis"
    sites: tuple[str, ...] = ()  # use only images of these localizations; empty: all
    known_metadata: bool = False  # use only images of which age, sex and localization are known
    image_size: int | tuple[int, int] = 224  # pixels; side, or height and width
    # Height and width of the pictures from which crops are cut. None: crops are cut from the model's input,
    # which is the scaled centre of each picture.
    picture_size: tuple[int, int] | None = None
    color: Color = "rgb"
    batch_size: int = 32
    # Gamma of Keras' CategoricalFocalCrossentropy; 0 for plain cross entropy.
    focal_gamma: float = 0.0
    # Loss weight of a class ∝ n ** -class_weight_power, with the mean 1 over the images; 0 for no weights.
    class_weight_power: float = 0.0
    # Number of draws of a class per epoch ∝ n ** sampling_power; 1: as in the data, 0: equal for all classes.
    sampling_power: float = 1.0
    epoch_size: float = 1.0  # number of draws per epoch, as a multiple of the number of training images
    optimizer: Literal["adamw", "adam", "adamax", "nadam", "rmsprop", "sgd"] = "adamw"
    weight_decay: float = 0.0
    clip_norm: float = 1.0  # largest norm of all gradients together; 0 for no limit
    # Decay of the exponential moving average of the weights; lower in the first steps of a phase. 0 for no
    # average.
    ema: float = 0.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    # Validation metric that selects the best epoch, and that plateaus are seen in; see
    # training.fit.validation.
    monitor: Literal["loss", "macro_loss", "accuracy", "balanced_accuracy"] = "loss"
    # Sensitivity that the malignancy threshold must reach on validation data.
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
                f"{self.name}: with the combination 'specialists', all members except the first must list "
                "classes; otherwise none may"
            )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the model's input in pixels."""
        return self.image_size if isinstance(self.image_size, tuple) else (self.image_size, self.image_size)

    @property
    def channels(self) -> int:
        """3 for RGB, 1 for grey."""
        return 3 if self.color == "rgb" else 1

    def member(self, name: str) -> MemberRecipe:
        """Return the member called ``name``.

        Raises:
            RecipeError: there is no such member.
        """
        for member in self.members:
            if member.name == name:
                return member
        names = ", ".join(member.name for member in self.members)
        raise RecipeError(f"{self.name} has no member {name!r}; its members are {names}")

    def member_size(self, member: MemberRecipe) -> tuple[int, int]:
        """Return height and width of the images that ``member`` reads, in pixels."""
        return (member.image_size, member.image_size) if member.image_size else self.size

    def phase_size(self, member: MemberRecipe, phase: Phase) -> tuple[int, int]:
        """Return height and width of the images in ``phase`` of ``member``, in pixels."""
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
    """Return a copy of ``recipe`` with the options of the command line applied; None keeps a value.

    Args:
        recipe: the recipe.
        loss: ``"cross_entropy"`` is unweighted, with gamma 0; ``"focal"`` has gamma 1.5 and weights inverse
            to the class frequency. Both sample classes as in the data.
        color, batch_size, epoch_size: as in ``Recipe``.
        image_size: side in pixels for every phase, every member and the exported model.
        max_epochs: upper bound on the epochs of each phase.
        starting_weights, feature_scale: as in ``MemberRecipe``, by member name.

    Raises:
        RecipeError: the changed recipe is not valid, or has no member of a given name.
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
        side = None if image_size else member.image_size
        members.append(
            replace(member, phases=phases, starting_weights=weights, feature_scale=scale, image_size=side)
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
