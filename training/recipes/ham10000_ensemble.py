"""The shipped model: MobileNetV2 and EfficientNetB1, 0.6/0.4, for a machine of two cores.

    python -m training run --recipe ham10000_ensemble --data DIR --out runs/NAME

What differs from the deck's recipe, and why:

- Plain cross entropy, and rare classes drawn more often (draws ∝ √n) rather than weighted in the
  loss: the same effective prior, but the time goes to images that are not one more nevus. The
  effective prior is taken out of the logits again, so the probabilities are those at the
  prevalence of the training data.
- AdamW with warm-up and cosine decay instead of steps: best within few epochs.
- Early epochs at 128 pixels, at a third of the cost; a moving average of the weights.
- The second member sees smaller crops: networks that err differently gain more from each other. And fewer
  pixels: it costs the most and weighs the least.

Measured, on a lesion-disjoint test part of 1,503 images: balanced accuracy 0.741 [0.696, 0.786] (label by
the decision rule), accuracy 0.830 [0.810, 0.852] (arg-max); MobileNetV2 alone 0.745 and 0.838,
EfficientNetB1 alone 0.668 and 0.792. About five hours on two shared CPU cores.
That run began from files: MobileNetV2's ImageNet weights and, for want of its own, EfficientNetB1 with the
same function transplanted block by block (`--feature-scale efficientnet_b1=0.25`). It was made in pieces: the
first three phases without the average and with the first member's crops for both; then the rest, of which
EfficientNetB1's last after two versions had been shipped. docs/training.md tells how.
"""

from dataclasses import replace

from training.recipe import Augmentation, MemberRecipe, Phase, Recipe

_AUGMENTATION = Augmentation(
    dihedral=True, min_crop=0.7, rotation=15.0, stretch=0.1, brightness=0.1, contrast=0.1, color=0.05
)

RECIPE = Recipe(
    name="ham10000_ensemble",
    members=(
        MemberRecipe(
            name="mobilenet_v2",
            backbone="mobilenet_v2",
            weight=0.6,
            phases=(
                Phase("head", epochs=1, learning_rate=1e-3, schedule="constant", image_size=128),
                Phase("all", epochs=7, learning_rate=4e-4, schedule="cosine", image_size=128),
                Phase("all", epochs=1, learning_rate=1e-4, schedule="cosine"),
                Phase("all", epochs=4, learning_rate=2e-4, schedule="cosine"),
                Phase("all", epochs=1, learning_rate=1.5e-4, schedule="cosine"),
            ),
        ),
        MemberRecipe(
            name="efficientnet_b1",
            backbone="efficientnet_b1",
            weight=0.4,
            phases=(
                Phase("head", epochs=1, learning_rate=1e-3, schedule="constant", image_size=128),
                Phase("all", epochs=5, learning_rate=4e-4, schedule="cosine", image_size=128),
                Phase("all", epochs=1, learning_rate=1e-4, schedule="cosine", image_size=224),
                Phase("all", epochs=2, learning_rate=3e-4, schedule="cosine", image_size=160),
                Phase("all", epochs=2, learning_rate=1e-4, schedule="cosine", image_size=224),
                Phase("all", epochs=4, learning_rate=3e-4, schedule="cosine", image_size=128),
            ),
            image_size=144,
            augmentation=replace(_AUGMENTATION, min_crop=0.5),
        ),
    ),
    sampling_power=0.5,
    epoch_size=0.5844,
    weight_decay=0.01,
    ema=0.99,
    augmentation=_AUGMENTATION,
)
