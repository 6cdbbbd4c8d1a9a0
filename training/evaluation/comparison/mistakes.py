"""The test images on which a run is surest of a wrong class."""

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from training.evaluation.comparison.page import card, cards
from training.evaluation.comparison.pictures import Pictures, jpeg
from training.evaluation.comparison.runs import ComparedRun
from training.metrics.scores import Predictions


@dataclass(frozen=True)
class Mistake:
    """An image whose most probable class is wrong; ``image`` is its index among the test images."""

    image: int
    truth: str
    said: str
    probability: float


def worst_mistakes(predictions: Predictions, count: int = 8) -> list[Mistake]:
    """The ``count`` mistakes with the highest probability, surest first; one image of each lesion."""
    said = predictions.probabilities.argmax(axis=1)
    sureness = predictions.probabilities.max(axis=1)
    wrong = np.flatnonzero(said != predictions.labels)
    found: dict[str, Mistake] = {}
    for image in wrong[np.argsort(-sureness[wrong], kind="stable")]:
        lesion = str(predictions.lesions[image])
        truth, claimed = (predictions.codes[index] for index in (predictions.labels[image], said[image]))
        found.setdefault(lesion, Mistake(int(image), truth, claimed, float(sureness[image])))
        if len(found) == count:
            break
    return list(found.values())


def mistake_cards(run: ComparedRun, pictures: Pictures) -> Markup:
    """The worst mistakes of ``run`` as HTML.

    Raises:
        ComparisonError: an image is not there any more.
    """
    drawn = []
    for mistake in worst_mistakes(run.predictions):
        image_id = run.image_ids[mistake.image]
        row = pictures.row(image_id)
        said = f"is {mistake.truth}, said {mistake.said} with p {mistake.probability:.2f}"
        age = "age unknown" if row.age is None else f"{row.age:.0f} years"
        caption = f"{image_id} {said}; {age}, {row.localization}"
        pixels = pictures.pixels(image_id, run.image_size, run.color)
        drawn.append(card(jpeg(pixels), f"Test image {image_id}: {said}", caption))
    return cards(drawn, "small")
