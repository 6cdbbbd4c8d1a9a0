"""The deck's ensemble with the weights of its mean in proportion to accuracy on validation.

    python -m training run --recipe deck/ensemble_accuracy --data DIR --out runs/NAME

The rule of benign_malignant/ensemble, for the deck's two members.

Differs from deck/ensemble in the weights alone.

Published: nothing.
Measured here: not trained here.
"""

from dataclasses import replace

from training.recipes.deck.ensemble import RECIPE as ENSEMBLE

RECIPE = replace(ENSEMBLE, name="deck/ensemble_accuracy", weighting="accuracy")
