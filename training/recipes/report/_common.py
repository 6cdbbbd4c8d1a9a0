"""What the report's recipes share, and what the report leaves open.

Images of 224 × 224 pixels, batches of 64, 30 epochs of Adam, cross entropy, augmentation by rotation,
zoom, shear, shifts and flips (colour augmentation was tried and dropped). Not told, and chosen here: that
all layers were trained, the learning rate 1e-4, how far the augmentation goes, dropout 0.3 before the
dense layer.
"""

from training.recipe import Augmentation, Phase

PHASES = (Phase("all", epochs=30, learning_rate=1e-4, schedule="constant", stop_patience=30),)
"""30 epochs without early stopping."""

AUGMENTATION = Augmentation(flips=True, rotation=20.0, zoom=0.1, shear=10.0, shift=0.1)
