"""The shipped model: MobileNetV2 and EfficientNetB1, half and half, for a machine of two cores.

    python -m training run --recipe ham10000_ensemble --data DIR --out runs/NAME

What differs from the deck's recipe, and why:

- Plain cross entropy, and rare classes drawn more often (draws ∝ √n) rather than weighted in the
  loss: the same effective prior, but the time goes to images that are not one more naevus. The
  effective prior is taken out of the logits again, so the probabilities are those at the
  prevalence of the training data.
- AdamW with warm-up and cosine decay over a whole phase; a moving average of the weights, with batch
  normalisation's statistics estimated anew at its end.
- Four fifths of the presentations at 128 pixels, at a third of the cost; the rest at the size served.
- Crops are cut from the whole picture, not from its centre; their resolution, compression and colours vary.
- The epoch is chosen by the macro loss, in which each class counts alike.

Bundle 1.2.0 was trained by an earlier version of this recipe: see docs/training-log.md.
"""

from training.recipe import Augmentation, MemberRecipe, Phase, Recipe
from training.recipes.entry import Entry

_PHASES = (
    Phase("head", epochs=1, learning_rate=1e-3, schedule="constant", image_size=128),
    Phase("all", epochs=36, learning_rate=5e-4, schedule="cosine", image_size=128),
    Phase("all", epochs=8, learning_rate=2e-4, schedule="cosine"),
)

RECIPE = Recipe(
    name="ham10000_ensemble",
    members=(
        MemberRecipe(name="mobilenet_v2", backbone="mobilenet_v2", weight=0.5, phases=_PHASES),
        MemberRecipe(name="efficientnet_b1", backbone="efficientnet_b1", weight=0.5, phases=_PHASES),
    ),
    picture_size=(258, 344),
    sampling_power=0.5,
    epoch_size=0.5844,
    weight_decay=0.02,
    ema=0.998,
    monitor="macro_loss",
    augmentation=Augmentation(
        dihedral=True,
        min_crop=0.4,
        rotation=15.0,
        stretch=0.1,
        brightness=0.1,
        contrast=0.15,
        color=0.05,
        saturation=0.2,
        hue=6.0,
        min_resolution=0.5,
        min_quality=60,
    ),
)

RECIPES = (
    Entry(
        RECIPE,
        "The shipped model: MobileNetV2 and EfficientNetB1, half and half, for a machine of two cores",
        measured="see [the training log](training-log.md)",
    ),
)
