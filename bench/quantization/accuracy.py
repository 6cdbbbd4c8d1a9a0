"""What quantization does to the probabilities, and to the decisions made from them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score

from bench.quantization.timing import open_session
from models.bundle import Manifest

_BATCH = 4


@dataclass(frozen=True)
class Effect:
    """How a graph differs from the float32 one.

    Attributes:
        largest, mean: absolute difference of a probability.
        flips: share of the images whose predicted label is another.
        balanced_accuracy: of its predicted labels; None where the true ones are not known.
    """

    largest: float
    mean: float
    flips: float
    balanced_accuracy: float | None


def probabilities(model: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """``[n, classes]`` for uint8 images ``[n, height, width, channels]``."""
    session = open_session(model)
    name = session.get_inputs()[0].name
    parts = (images[start : start + _BATCH] for start in range(0, len(images), _BATCH))
    return np.concatenate([session.run(["probabilities"], {name: part})[0] for part in parts])


def predict(manifest: Manifest, found: NDArray[np.float32]) -> NDArray[np.int64]:
    """Class index of the label that the bundle's decision rule picks, for probabilities ``[n, classes]``."""
    rule = manifest.decision_rule
    prior = np.array([rule.prior[code] for code in manifest.codes])
    return np.asarray(np.argmax(found / prior**rule.tau, axis=1))


def effect(
    manifest: Manifest,
    reference: NDArray[np.float32],
    found: NDArray[np.float32],
    labels: NDArray[np.int64] | None,
) -> Effect:
    """Compare probabilities ``[n, classes]`` with those of the float32 graph, ``reference``."""
    difference = np.abs(found - reference)
    predicted = predict(manifest, found)
    return Effect(
        largest=float(difference.max()),
        mean=float(difference.mean()),
        flips=float(np.mean(predicted != predict(manifest, reference))),
        balanced_accuracy=None if labels is None else float(balanced_accuracy_score(labels, predicted)),
    )
