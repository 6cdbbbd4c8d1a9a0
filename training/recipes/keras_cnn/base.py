"""One block of two convolutions of 32, one hidden layer of 64, from scratch.

    python -m training run --recipe keras_cnn/base --data DIR --out runs/NAME

Adam at 1e-4, up to 200 epochs, the rate lowered on a plateau, early stopping; 100 × 75 pixels.

Differs: split by lesion, not by image.

Published, on a split by image (it flatters): macro F1 0.44, accuracy 0.74.
Measured here: not trained here.
"""

from training.recipes.keras_cnn._common import network

RECIPE = network("keras_cnn/base", filters=(32,), hidden=64)
