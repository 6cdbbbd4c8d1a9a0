"""Grad-CAM of the same test images by every run, from the graphs that the runs would serve."""

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
    """A test image that stands for its class.

    Attributes:
        image: index among the test images.
        label: its class.
        right: how many runs decide for that class.
    """

    image: int
    label: int
    right: int


def choose_examples(group: Group) -> list[Example]:
    """For each class the test image that most runs get right.

    Among several such images, the one with the highest mean probability of its class.
    A class is left out if no run gets any of its images right.
    """
    right = np.sum([run.predictions.decided == group.truth.labels for run in group], axis=0)
    labels = group.truth.labels
    of_truth = [run.predictions.probabilities[np.arange(len(labels)), labels] for run in group]
    sureness = np.mean(of_truth, axis=0)
    examples = []
    for label in range(len(group.truth.codes)):
        candidates = np.flatnonzero((labels == label) & (right > 0))
        if len(candidates):
            best = candidates[np.lexsort((sureness[candidates], right[candidates]))[-1]]
            examples.append(Example(int(best), label, int(right[best])))
    return examples


def heatmaps(
    run: ComparedRun, examples: list[Example], pictures: Pictures
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each example the pixels that the run reads and the map ``[h, w]`` of its true class.

    Raises:
        ComparisonError: the run has no bundle, an image is gone, or the bundle does not answer what
            the run's evaluation says, so that it is not this run's.
    """
    if isinstance(run.bundle, BundleError):
        raise ComparisonError(
            f"{run.name} has no bundle that can be read, so no Grad-CAM; "
            "`python -m training export` writes it"
        )
    manifest = run.bundle.manifest
    if manifest.codes != run.predictions.codes:
        raise ComparisonError(f"{run.name}: the bundle's classes are not those of its evaluation")
    size = (manifest.input.height, manifest.input.width)
    images = np.stack(
        [pictures.pixels(run.image_ids[example.image], size, manifest.input.color) for example in examples]
    )
    answers = run_graph(run.bundle.model_path, images, batch_size=1)
    expected = run.predictions.probabilities[[example.image for example in examples]]
    difference = float(np.abs(answers["probabilities"] - expected).max())
    if not difference <= _TOLERANCE:  # also true for NaN
        raise ComparisonError(
            f"{run.name}: the bundle's answers differ from those of the evaluation by {difference:.3f}; "
            "export it again"
        )
    maps = [answers["cams"][index, example.label] for index, example in enumerate(examples)]
    return list(zip(images, maps, strict=True))


def gallery(group: Group, pictures: Pictures) -> tuple[Markup, list[str]]:
    """The pictures as HTML, rows by class and columns by run, and a sentence for each run without.

    The HTML is empty where no run has maps.

    Raises:
        ComparisonError: the images are gone, or there is no example.
    """
    examples = choose_examples(group)
    if not examples:
        raise ComparisonError("no run gets any test image right")
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
        "Grad-CAM of the true class. Colour is relative within one picture, not a probability: "
        "yellow is where most of the evidence lies, dark or no colour where there is little."
    )
    names = [codes[example.label] for example in examples]
    return picture_grid(caption, columns, list(zip(names, cells, strict=True))), problems


def _original(pictures: Pictures, image_id: str, code: str) -> Markup:
    pixels = pictures.pixels(image_id, (224, 224), "rgb")
    return card(jpeg(pixels), f"Test image {image_id}, {code}, as it is", image_id)


def _mapped(run: ComparedRun, example: Example, pixels: np.ndarray, heatmap: np.ndarray) -> Markup:
    said = int(run.predictions.decided[example.image])
    code = run.predictions.codes[said]
    says = f"says {code}, p {run.predictions.probabilities[example.image, said]:.2f}"
    if said != example.label:
        says += " – wrong"
    drawn = overlay(pixels, heatmap)
    if drawn is None:
        says += "; the map is zero everywhere"
    true_code = run.predictions.codes[example.label]
    alt = f"{run.name} on the {true_code} image: {says}. {_place(heatmap)}"
    return card(jpeg(pixels if drawn is None else drawn), alt, says)


def _place(heatmap: np.ndarray) -> str:
    """In words, for the alternative text: where the map is strongest."""
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
