"""Grad-CAM of the same test images by every run, computed by the graphs in the runs' bundles."""

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from models.errors import BundleError
from training.evaluation.comparison.page import card, picture_grid
from training.evaluation.comparison.pictures import Pictures, jpeg, overlay
from training.evaluation.comparison.runs import ComparedRun, ComparisonError, Group
from training.export.runtime import run_graph

_TOLERANCE = 0.01  # between the graph's probabilities and those of the evaluation


@dataclass(frozen=True)
class Example:
    """A test image that represents its class.

    Attributes:
        image: index among the test images.
        label: index of its true class.
        correct: number of runs that predict this class.
    """

    image: int
    label: int
    correct: int


def choose_examples(group: Group) -> list[Example]:
    """Return, for each class, the test image that most runs classify correctly.

    Of several such images, it is the one with the highest mean probability of its class. A class is left out
    if no run classifies any of its images correctly.
    """
    correct = np.sum([run.predictions.decided == group.truth.labels for run in group], axis=0)
    labels = group.truth.labels
    confidence = np.mean(
        [run.predictions.probabilities[np.arange(len(labels)), labels] for run in group], axis=0
    )
    examples = []
    for label in range(len(group.truth.codes)):
        candidates = np.flatnonzero((labels == label) & (correct > 0))
        if len(candidates):
            best = candidates[np.lexsort((confidence[candidates], correct[candidates]))[-1]]
            examples.append(Example(int(best), label, int(correct[best])))
    return examples


def heatmaps(
    run: ComparedRun, examples: list[Example], pictures: Pictures
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return, for each example, the pixels of the model's input and the map ``[h, w]`` of the true class.

    Raises:
        ComparisonError: the run has no bundle, an image is missing, or the bundle's predictions differ from
            those of the run's evaluation.
    """
    if isinstance(run.bundle, BundleError):
        raise ComparisonError(
            f"{run.name} has no readable bundle, which Grad-CAM needs; `python -m training export` writes it"
        )
    manifest = run.bundle.manifest
    if manifest.codes != run.predictions.codes:
        raise ComparisonError(f"{run.name}: the bundle's classes differ from those of the evaluation")
    size = (manifest.input.height, manifest.input.width)
    images = np.stack(
        [pictures.pixels(run.image_ids[example.image], size, manifest.input.color) for example in examples]
    )
    outputs = run_graph(run.bundle.model_path, images, batch_size=1)
    expected = run.predictions.probabilities[[example.image for example in examples]]
    difference = float(np.abs(outputs["probabilities"] - expected).max())
    if not difference <= _TOLERANCE:  # also true for NaN
        raise ComparisonError(
            f"{run.name}: the bundle's probabilities differ from those of the evaluation by "
            f"{difference:.3f}; export it again"
        )
    maps = [outputs["cams"][index, example.label] for index, example in enumerate(examples)]
    return list(zip(images, maps, strict=True))


def gallery(group: Group, pictures: Pictures) -> tuple[Markup, list[str]]:
    """Return a table of pictures, with a row for each class and a column for each run.

    Returns:
        The HTML, empty if no run has maps; and a message for each run without maps.

    Raises:
        ComparisonError: the images are missing, or there is no example.
    """
    examples = choose_examples(group)
    if not examples:
        raise ComparisonError("no run classifies any test image correctly")
    codes, ids = group.truth.codes, group.runs[0].image_ids
    cells = [[_original(pictures, ids[e.image], codes[e.label])] for e in examples]
    columns, problems = ["original"], []
    for run in group:
        try:
            maps = heatmaps(run, examples, pictures)
        except ComparisonError as error:
            problems.append(str(error))
            continue
        columns.append(f"{run.name} ({run.color})")
        for row, example, (pixels, heatmap) in zip(cells, examples, maps, strict=True):
            row.append(_mapped(run, example, pixels, heatmap))
    if len(columns) == 1:
        return Markup(""), problems
    caption = (
        "Grad-CAM of the true class. Colours are relative within one picture, not probabilities: yellow "
        "marks the most evidence, dark or no colour little."
    )
    names = [codes[example.label] for example in examples]
    return picture_grid(caption, columns, list(zip(names, cells, strict=True))), problems


def _original(pictures: Pictures, image_id: str, code: str) -> Markup:
    pixels = pictures.pixels(image_id, (224, 224), "rgb")
    return card(jpeg(pixels), f"Test image {image_id}, {code}, without a map", image_id)


def _mapped(run: ComparedRun, example: Example, pixels: np.ndarray, heatmap: np.ndarray) -> Markup:
    predicted = int(run.predictions.decided[example.image])
    code = run.predictions.codes[predicted]
    caption = f"predicts {code}, p {run.predictions.probabilities[example.image, predicted]:.2f}"
    if predicted != example.label:
        caption += " – wrong"
    drawn = overlay(pixels, heatmap)
    if drawn is None:
        caption += "; the map is zero everywhere"
    true_code = run.predictions.codes[example.label]
    alt = f"{run.name} on the {true_code} image: {caption}. {_describe_position(heatmap)}"
    return card(jpeg(pixels if drawn is None else drawn), alt, caption)


def _describe_position(heatmap: np.ndarray) -> str:
    """Return where the map is strongest, for the alternative text."""
    if heatmap.max() <= 0:
        return "Nothing is marked."
    row, column = np.unravel_index(int(heatmap.argmax()), heatmap.shape)
    thirds = [
        names[min(3 * int(at) // extent, 2)]
        for at, extent, names in (
            (row, heatmap.shape[0], ("top", "middle", "bottom")),
            (column, heatmap.shape[1], ("left", "centre", "right")),
        )
    ]
    return f"Strongest at the {' '.join(thirds)}."
