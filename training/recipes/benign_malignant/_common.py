"""What the recipes for benign or malignant share.

Images of 224 × 224 pixels divided by 255; the malignant class augmented to balance. Where the report says
"sigmoid", two classes with a softmax: the same function of the difference of two logits. Malignant is what
the service calls so: akiec, bcc and mel; the report counted mel and bcc only. Every image is augmented,
not copies of the malignant ones alone, and the balanced draws are taken out of the probabilities again.
Not told, and chosen here: batches of 32 and how far the augmentation goes.
"""

from training.recipe import Augmentation

AUGMENTATION = Augmentation(flips=True, rotation=180.0, zoom=0.2, min_crop=0.8, shift=0.1)

EPOCH_SIZE = 1.6
"""8,061 of the 10,015 images are benign: as many malignant ones again make 1.6 times the data."""
