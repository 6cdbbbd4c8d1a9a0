"""The shipped model: MobileNetV2 and EfficientNetB1, 0.6/0.4, for a machine of two cores.

    python -m training run --recipe ham10000_ensemble --data DIR --out runs/NAME

What differs from the deck's recipe, and why:

- Plain cross entropy, and rare classes drawn more often (draws ∝ √n) rather than weighted in the
  loss: the same effective prior, but the time goes to images that are not one more nevus. The
  effective prior is taken out of the logits again, so the probabilities are those at the
  prevalence of the training data.
- AdamW with warm-up and cosine decay instead of steps: best within few epochs.
- Early epochs at 128 pixels, at a third of the cost, the last at 224.

Measured, on a lesion-disjoint test part of 1,503 images: balanced accuracy 0.715 [0.669, 0.763] (label by
the decision rule), accuracy 0.811 [0.792, 0.831] (arg-max); MobileNetV2 alone 0.710 and 0.819,
EfficientNetB1 alone 0.688 and 0.771. About two hours on two shared CPU cores, both members at once.
That run began from files: MobileNetV2's ImageNet weights and, for want of its own, EfficientNetB1 with the
same function transplanted block by block (`--feature-scale efficientnet_b1=0.25`). It was stopped and
resumed several times at code that changed meanwhile: EfficientNetB1's first epoch of phase two ran under a
schedule of six epochs instead of five, and from the fourth epoch of MobileNetV2's phase two (the second of
EfficientNetB1's) on, training losses were recorded wrongly and are left blank in the curves.
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
            ),
        ),
        MemberRecipe(
            name="efficientnet_b1",
            backbone="efficientnet_b1",
            weight=0.4,
            phases=(
                Phase("head", epochs=1, learning_rate=1e-3, schedule="constant", image_size=128),
                Phase("all", epochs=5, learning_rate=4e-4, schedule="cosine", image_size=128),
                Phase("all", epochs=1, learning_rate=1e-4, schedule="cosine"),
                Phase("all", epochs=2, learning_rate=3e-4, schedule="cosine", image_size=160),
                Phase("all", epochs=2, learning_rate=1e-4, schedule="cosine"),
            ),
            augmentation=replace(_AUGMENTATION, min_crop=0.5),
        ),
    ),
    sampling_power=0.5,
    epoch_size=0.5844,
    weight_decay=0.01,
    ema=0.99,
    augmentation=_AUGMENTATION,
)
