"""The deck's ensemble with the weights of its mean from a coarse grid, on validation.

    python -m training run --recipe deck/ensemble_grid --data DIR --out runs/NAME

The deck names this as future work: a grid search of the two weights. The grid is coarse because weights
tuned finely on validation lose on test what they gained.

Differs from deck/ensemble in the weights alone.

Published: nothing.
Measured here: not trained here.
"""

from dataclasses import replace

from training.recipes.deck.ensemble import RECIPE as ENSEMBLE

RECIPE = replace(ENSEMBLE, name="deck/ensemble_grid", weighting="grid")
