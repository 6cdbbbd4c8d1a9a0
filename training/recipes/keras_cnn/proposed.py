"""The report's proposal: four blocks of 32 to 256, one hidden layer of 512, from scratch.

    python -m training run --recipe keras_cnn/proposed --data DIR --out runs/NAME

Adam at 1e-4, up to 200 epochs, the rate lowered on a plateau, early stopping; 100 × 75 pixels.

Differs: split by lesion, not by image.

Published, on a split by image (it flatters): macro F1 0.51, accuracy 0.77.
Measured here: not trained here.
"""

from training.recipes.keras_cnn._common import network

RECIPE = network("keras_cnn/proposed", filters=(32, 64, 128, 256), hidden=512)
