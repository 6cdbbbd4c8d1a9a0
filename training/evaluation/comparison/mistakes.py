"""The test images for which a run gives a wrong class the highest probability."""

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from training.evaluation.comparison.page import card, cards
from training.evaluation.comparison.pictures import Pictures, jpeg
from training.evaluation.comparison.runs import ComparedRun
from training.metrics.scores import Predictions


@dataclass(frozen=True)
class Mistake:
    """An image whose most probable class is wrong.

    Attributes:
        image: index among the test images.
        truth: code of the true class.
        predicted: code of the most probable class.
        probability: probability of ``predicted``.
    """

    image: int
    truth: str
    predicted: str
    probability: float


def worst_mistakes(predictions: Predictions, count: int = 8) -> list[Mistake]:
    """Return the ``count`` mistakes with the highest probability, highest first; one image per lesion."""
    predicted = predictions.probabilities.argmax(axis=1)
    confidence = predictions.probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != predictions.labels)
    found: dict[str, Mistake] = {}
    for image in wrong[np.argsort(-confidence[wrong], kind="stable")]:
        lesion = str(predictions.lesions[image])
        truth, code = (predictions.codes[index] for index in (predictions.labels[image], predicted[image]))
        found.setdefault(lesion, Mistake(int(image), truth, code, float(confidence[image])))
        if len(found) == count:
            break
    return list(found.values())


def mistake_cards(run: ComparedRun, pictures: Pictures) -> Markup:
    """Return the worst mistakes of ``run`` as HTML.

    Raises:
        ComparisonError: an image is missing.
    """
    drawn = []
    for mistake in worst_mistakes(run.predictions):
        image_id = run.image_ids[mistake.image]
        row = pictures.row(image_id)
        verdict = f"is {mistake.truth}, predicted {mistake.predicted} with p {mistake.probability:.2f}"
        age = "age unknown" if row.age is None else f"{row.age:.0f} years"
        caption = f"{image_id} {verdict}; {age}, {row.localization}"
        pixels = pictures.pixels(image_id, run.image_size, run.color)
        drawn.append(card(jpeg(pixels), f"Test image {image_id}: {verdict}", caption))
    return cards(drawn, "small")
