"""What the repository's recipes share, and what it leaves open.

Images of 100 × 125 pixels (height × width), scaled by mean and deviation of the training pixels, Adam,
batches of 10, 50 epochs without early stopping. Not told, and chosen here: that the rate stays as it is
where none else is said, and what the pretrained networks' heads hold beside the layers named.
"""

from training.recipe import Phase

IMAGE_SIZE = (100, 125)
EPOCHS = 50


def constant(trainable: int, learning_rate: float, epochs: int = EPOCHS) -> Phase:
    """All epochs at one rate; a patience as long as the phase means no early stopping."""
    return Phase(trainable, epochs, learning_rate, schedule="constant", stop_patience=epochs)
