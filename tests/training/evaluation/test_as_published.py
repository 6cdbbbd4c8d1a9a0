"""``training.evaluation.as_published``, against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

from training.data.dataset import CODES, MALIGNANT, classes_of
from training.evaluation.as_published import score_as_published
from training.metrics.scores import Predictions


def _predictions(codes: tuple[str, ...], malignant: tuple[bool, ...]) -> Predictions:
    rng = np.random.default_rng(0)
    labels = np.arange(210) % len(codes)
    p = 0.6 * rng.dirichlet(np.ones(len(codes)), 210) + 0.4 * np.eye(len(codes))[rng.permutation(labels)]
    p = 0.5 * p + 0.5 * np.eye(len(codes))[labels]
    return Predictions(
        probabilities=p / p.sum(axis=1, keepdims=True),
        decided=np.zeros(210, int),  # a rule that the published systems do not have
        labels=labels,
        lesions=np.arange(210).astype(str),
        codes=codes,
        malignant=np.array(malignant),
        threshold=0.05,
    )


def test_seven_classes_are_scored_by_the_most_probable_class() -> None:
    predictions = _predictions(CODES, MALIGNANT)
    found = score_as_published(predictions, resamples=20)["diagnosis"]
    truth, label = predictions.labels, predictions.probabilities.argmax(axis=1)
    expected = {
        "accuracy": accuracy_score(truth, label),
        "macro_precision": precision_score(truth, label, average="macro"),
        "macro_recall": recall_score(truth, label, average="macro"),
        "macro_f1": f1_score(truth, label, average="macro"),
        "weighted_f1": f1_score(truth, label, average="weighted"),
        **dict(zip((f"f1_{code}" for code in CODES), f1_score(truth, label, average=None), strict=True)),
    }
    assert {name: metric["value"] for name, metric in found.items()} == pytest.approx(expected)
    assert all(metric["low"] <= metric["value"] <= metric["high"] for metric in found.values())


def test_melanoma_and_basal_cell_carcinoma_are_malignant_from_one_half() -> None:
    predictions = _predictions(CODES, MALIGNANT)
    malignant = [CODES.index("mel"), CODES.index("bcc")]
    truth = np.isin(predictions.labels, malignant)
    label = predictions.probabilities[:, malignant].sum(axis=1) >= 0.5
    found = score_as_published(predictions, resamples=20)["malignancy"]
    assert {name: metric["value"] for name, metric in found.items()} == pytest.approx(
        {
            "accuracy": accuracy_score(truth, label),
            "precision": precision_score(truth, label),
            "recall": recall_score(truth, label),
        }
    )


def test_a_model_of_two_classes_is_scored_by_these() -> None:
    classes = classes_of("malignancy")
    predictions = _predictions(classes.codes, tuple(classes.malignant.tolist()))
    found = score_as_published(predictions, resamples=20)
    assert set(found) == {"malignancy"}
    label = predictions.probabilities[:, 1] >= 0.5
    assert found["malignancy"]["recall"]["value"] == pytest.approx(recall_score(predictions.labels, label))
