"""What the deck's recipes share, and what the deck leaves open.

Images of 224 × 224 pixels. Not told, and chosen here: Adam, batches of 32, no augmentation, dropout 0.3
before the dense layer, and how many of the 154 layers of MobileNetV2 were unfrozen.
"""

from training.recipe import Phase

HEAD = Phase("head", epochs=10, learning_rate=1e-4, schedule="constant")
"""The first ten epochs: the backbone as it comes from ImageNet."""
