"""The shipped model: the mean of MobileNetV2 and EfficientNetB1, for a machine with two cores.

    python -m training run --recipe ham10000_ensemble --data DIR --out runs/NAME

Differences from ``mobilenet_efficientnet/ensemble``:

- Plain cross entropy, with rare classes sampled more often (draws ∝ √n) instead of weighted in the loss. The
  effective prior is the same, but fewer steps are spent on naevi. The effective prior is removed from the
  logits, so the probabilities hold at the prevalence of the training data.
- AdamW with warm-up and cosine decay over a whole phase; a moving average of the weights, with the statistics
  of batch normalisation re-estimated at its end.
- Three quarters of the epochs at 128 pixels, at a third of the cost; the rest at the size of the service.
- Crops are cut from the whole picture, not from its centre; their resolution, compression and colours vary.
- The macro loss selects the epoch, so that all classes count equally.

Bundle 1.3.0 was trained by it, in 100 minutes on two cores: see docs/training-log.md.
"""

from training.recipe import Augmentation, MemberRecipe, Phase, Recipe
from training.recipes.entry import Entry

_PHASES = (
    Phase("head", epochs=1, learning_rate=1e-3, schedule="constant", image_size=128),
    Phase("all", epochs=16, learning_rate=5e-4, schedule="cosine", image_size=128),
    Phase("all", epochs=5, learning_rate=2e-4, schedule="cosine"),
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
    ema=0.99,
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
        "The shipped model: the mean of MobileNetV2 and EfficientNetB1, for a machine with two cores",
    ),
)
