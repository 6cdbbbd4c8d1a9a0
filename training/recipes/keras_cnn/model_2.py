"""Two blocks of 32 and 64, one hidden layer of 128, from scratch.

    python -m training run --recipe keras_cnn/model_2 --data DIR --out runs/NAME

Adam at 1e-4, up to 200 epochs, the rate lowered on a plateau, early stopping; 100 × 75 pixels.

Differs: split by lesion, not by image.

Published, on a split by image (it flatters): macro F1 0.48, accuracy 0.76.
Measured here: not trained here.
"""

from training.recipes.keras_cnn._common import network

RECIPE = network("keras_cnn/model_2", filters=(32, 64), hidden=128)
