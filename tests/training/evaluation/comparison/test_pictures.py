"""Overlays, the choice of example images, and the worst mistakes."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.synthetic_dataset import write_dataset
from tests.training.evaluation.comparison.synthetic_runs import (
    synthetic_predictions,
    synthetic_rows,
    write_run,
    write_run_with_bundle,
)
from training.data.dataset import read_dataset
from training.evaluation.comparison.gradcam import choose_examples, gallery, heatmaps
from training.evaluation.comparison.mistakes import mistake_cards, worst_mistakes
from training.evaluation.comparison.pictures import MAX_OPACITY, Pictures, jpeg, overlay
from training.evaluation.comparison.runs import ComparisonError, Group, group_runs, open_runs

ROWS = synthetic_rows(70)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "HAM", lesions=2)


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Group:
    """Return a group of an RGB run and a grey run, each with its bundle."""
    folder, rows = tmp_path_factory.mktemp("runs"), read_dataset(data)
    folders = [
        write_run_with_bundle(folder / "rgb", rows, data=data),
        write_run_with_bundle(folder / "grey", rows, data=data, color="grey"),
    ]
    (group,) = group_runs(open_runs(folders))
    return group


def test_an_overlay_follows_the_map_and_leaves_the_picture_visible() -> None:
    pixels = np.full((40, 60, 3), 100, np.uint8)
    heatmap = np.zeros((4, 6))
    heatmap[0, 5] = 7.0
    drawn = overlay(pixels, heatmap)
    assert drawn is not None
    assert drawn.shape == (40, 60, 3)
    assert (drawn[30:, :30] == 100).all()
    yellow = np.array([253, 231, 36])  # the upper end of viridis
    expected = 100 * (1 - MAX_OPACITY) + yellow * MAX_OPACITY
    assert drawn[0, -1] == pytest.approx(expected, abs=4)
    assert np.abs(drawn.astype(float) - 100).max() <= MAX_OPACITY * 156


def test_a_grey_picture_gets_a_coloured_map_and_an_empty_map_none() -> None:
    grey = np.full((8, 8, 1), 90, np.uint8)
    drawn = overlay(grey, np.ones((2, 2)))
    assert drawn is not None
    assert drawn.shape == (8, 8, 3)
    assert overlay(grey, np.zeros((2, 2))) is None
    with Image.open(io.BytesIO(jpeg(grey))) as image:
        assert (image.format, image.size) == ("JPEG", (8, 8))


def test_the_example_of_a_class_is_the_image_that_most_runs_classify_correctly(tmp_path: Path) -> None:
    predictions = synthetic_predictions(ROWS, skill=1.0)
    wrong = predictions.labels == 2
    decided = np.where(wrong, 0, predictions.labels)
    nowhere = replace(predictions, decided=decided)  # no image of class 2 is right
    half = predictions.decided.copy()
    half[predictions.labels == 1] = 0
    half[1 + 7 * 4] = 1  # of class 1 this image alone is right in both runs
    folders = [
        write_run(tmp_path / "a", ROWS, nowhere),
        write_run(tmp_path / "b", ROWS, replace(predictions, decided=np.where(wrong, 0, half))),
    ]
    (group,) = group_runs(open_runs(folders))
    examples = {example.label: example for example in choose_examples(group)}
    assert sorted(examples) == [0, 1, 3, 4, 5, 6]
    assert (examples[1].image, examples[1].correct) == (29, 2)
    surest = np.where(predictions.labels == 5, predictions.probabilities[:, 5], 0).argmax()
    assert examples[5].image == surest


def test_the_gallery_shows_every_run_beside_the_original(group: Group, data: Path) -> None:
    html, problems = gallery(group, Pictures(data))
    assert problems == []
    examples = choose_examples(group)
    assert html.count("<img") == 3 * len(examples) > 0
    titles = ["original", "rgb/run (rgb)", "grey/run (grey)"]
    assert all(f'<th scope="col">{title}</th>' in html for title in titles)
    for run in group:
        for pixels, heatmap in heatmaps(run, examples, Pictures(data)):
            assert pixels.shape == (64, 64, 3 if run.color == "rgb" else 1)
            assert heatmap.min() >= 0


def test_a_bundle_of_another_run_is_refused(group: Group, data: Path) -> None:
    run = group.runs[0]
    others = replace(run.predictions, probabilities=run.predictions.probabilities[::-1])
    stranger = replace(run, predictions=others)
    with pytest.raises(ComparisonError, match="differ from those of the evaluation by 0"):
        heatmaps(stranger, choose_examples(group), Pictures(data))


def test_without_a_bundle_there_is_a_message_and_no_empty_table(tmp_path: Path, data: Path) -> None:
    rows = read_dataset(data)
    folder = write_run(tmp_path / "bare", rows, synthetic_predictions(rows, skill=0.9), data=data)
    html, problems = gallery(group_runs(open_runs([folder]))[0], Pictures(data))
    assert html == ""
    assert "bare has no readable bundle" in problems[0]
    assert "python -m training export" in problems[0]


def test_the_worst_mistakes_are_sorted_by_probability_with_one_per_lesion() -> None:
    predictions = synthetic_predictions(ROWS, skill=0.5)
    mistakes = worst_mistakes(predictions, count=6)
    probabilities = [mistake.probability for mistake in mistakes]
    assert probabilities == sorted(probabilities, reverse=True)
    assert len({predictions.lesions[mistake.image] for mistake in mistakes}) == 6
    wrong = predictions.probabilities.argmax(axis=1) != predictions.labels
    assert probabilities[0] == predictions.probabilities.max(axis=1)[wrong].max()
    for mistake in mistakes:
        assert mistake.truth == ROWS[mistake.image].dx != mistake.predicted
    assert worst_mistakes(synthetic_predictions(ROWS, skill=1.0)) == []


def test_a_mistake_is_shown_with_its_metadata(group: Group, data: Path) -> None:
    run = group.runs[1]
    worst = worst_mistakes(run.predictions)[0]
    html = mistake_cards(run, Pictures(data))
    verdict = f"is {worst.truth}, predicted {worst.predicted} with p {worst.probability:.2f}"
    assert f"{run.image_ids[worst.image]} {verdict}; " in html
    assert html.count("<img") == len(worst_mistakes(run.predictions))


def test_a_missing_data_set_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ComparisonError, match="the data set cannot be read"):
        Pictures(tmp_path).pixels("SYNTH_0000000", (64, 64), "rgb")


def test_a_missing_image_is_reported(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "HAM", lesions=1)
    pictures = Pictures(folder)
    assert pictures.pixels("SYNTH_0000000", (64, 32), "grey").shape == (64, 32, 1)
    pictures.row("SYNTH_0000000").path.unlink()
    with pytest.raises(ComparisonError, match="SYNTH_0000000 cannot be read"):
        pictures.pixels("SYNTH_0000000", (64, 64), "rgb")
    with pytest.raises(ComparisonError, match="no longer contains image ISIC_1"):
        pictures.row("ISIC_1")
