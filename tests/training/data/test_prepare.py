import csv
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from tests.synthetic_dataset import write_dataset
from training.__main__ import main
from training.data.dataset import METADATA_NAME, DataError, Row, read_dataset
from training.data.folds import read_folds
from training.data.prepare import SPLIT_NAME, prepare
from training.data.split import make_split, read_split


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("drawn") / "HAM", lesions=6)


@pytest.fixture
def dataset(drawn: Path, tmp_path: Path) -> Path:
    """Return a copy that a test may change."""
    return Path(shutil.copytree(drawn, tmp_path / "HAM"))


def _of(rows: list[Row], dx: str, lesion: int) -> Row:
    return next(row for row in rows if row.lesion_id == f"LES_{dx}_{lesion}")


def _separating(rows: list[Row], chosen: Sequence[Row]) -> int:
    """Return a seed that puts ``chosen`` into different parts unless their lesions are joined."""
    splits = ((seed, make_split(rows, seed=seed)) for seed in range(100))
    return next(seed for seed, split in splits if len({split[row.image_id] for row in chosen}) > 1)


def test_prepare_writes_split_description_and_plot(dataset: Path, tmp_path: Path) -> None:
    prepared = prepare(dataset, tmp_path / "out", seed=0)
    rows = read_dataset(dataset)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"split.csv", "data.md", "data.png"}
    assert read_split(tmp_path / "out" / "split.csv", rows) == prepared.splits["split.csv"]
    text = (tmp_path / "out" / "data.md").read_text()
    assert "56 images of 42 lesions; 14 lesions have several images." in text
    assert "split.csv: 0 lesions in more than one part." in text
    assert "0 pairs of images of different lesions" in text
    melanomas = text.partition("## Melanoma by age and site")[2]
    of_age = sum(row.age is not None and row.dx == "mel" for row in rows)
    images_of_age = sum(row.age is not None for row in rows)
    assert f"| 50–59 | {images_of_age} | {of_age} | {of_age / images_of_age:.3f} |" in melanomas
    assert f"| back | 56 | 8 | {8 / 56:.3f} |" in melanomas
    with Image.open(tmp_path / "out" / "data.png") as picture:
        assert min(picture.size) > 200
    assert prepared.summary == (
        "56 images of 42 lesions; 0 near-duplicate pairs between lesions (0 with different diagnoses); "
        "0 lesions in more than one part"
    )


def test_lesions_with_one_picture_stay_together_and_are_named(dataset: Path, tmp_path: Path) -> None:
    rows = read_dataset(dataset)
    nevus, another, melanoma = _of(rows, "nv", 1), _of(rows, "nv", 4), _of(rows, "mel", 2)
    with Image.open(nevus.path) as picture:
        picture.crop((3, 2, 117, 88)).save(another.path, quality=80)
        picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(melanoma.path, quality=95)
    together = nevus, another, melanoma
    prepared = prepare(dataset, tmp_path / "out", seed=_separating(rows, together))
    assert len({prepared.splits[SPLIT_NAME][row.image_id] for row in together}) == 1
    assert "(2 with different diagnoses)" in prepared.summary
    text = (tmp_path / "out" / "data.md").read_text()
    assert "3 pairs of images of different lesions" in text
    assert "2 of them with different diagnoses; 0 lie in two parts" in text
    assert f"{melanoma.image_id} | {melanoma.lesion_id} | mel | {nevus.image_id}" in text
    assert text.count("| mirrored |") == 2


def test_byte_identical_files_stay_together_even_without_structure(dataset: Path, tmp_path: Path) -> None:
    rows = read_dataset(dataset)
    pair = _of(rows, "nv", 1), _of(rows, "nv", 4)
    for row in pair:
        Image.new("RGB", (120, 90), "white").save(row.path)
    prepared = prepare(dataset, tmp_path / "out", seed=_separating(rows, pair))
    assert len({prepared.splits[SPLIT_NAME][row.image_id] for row in pair}) == 1
    assert "Byte-identical files: 1 groups" in (tmp_path / "out" / "data.md").read_text()


def test_a_split_by_image_gives_a_warning(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["prepare", "--data", str(dataset), "--out", str(out), "--split-by", "image"]) == 0
    assert "WARNING: split by image" in capsys.readouterr().out
    text = (out / "data.md").read_text()
    assert "**Warning: split by image" in text
    assert "split.csv: 0 lesions in more than one part" not in text
    assert read_split(out / "split.csv", read_dataset(dataset)).by == "image"


def test_a_split_by_lesion_gives_no_warning(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prepare", "--data", str(dataset), "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("56 images of 42 lesions; 0 near-duplicate pairs")
    assert "WARNING" not in shown
    assert "Warning" not in (tmp_path / "out" / "data.md").read_text()


def test_each_fold_is_written_to_its_own_file(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["prepare", "--data", str(dataset), "--out", str(out), "--folds", "3"]) == 0
    assert "fold-1.csv, fold-2.csv, fold-3.csv" in capsys.readouterr().out
    assert len(read_folds(out, read_dataset(dataset), folds=3)) == 3
    with (out / "fold-2.csv").open() as stream:
        assert next(csv.reader(stream)) == ["image_id", "lesion_id", "dx", "part"]
    assert "| fold-3.csv | test |" in (out / "data.md").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--folds", "2"], "at least 3 are needed for train, validation and test, got 2"),
        (["--folds", "7"], "6 lesions, at least 7 are needed for 7 folds"),
        (["--folds", "3", "--split-by", "image"], "folds are made by lesion only"),
    ],
)
def test_folds_that_cannot_be_made_are_refused(
    dataset: Path, tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["prepare", "--data", str(dataset), "--out", str(out), *options]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_every_damaged_image_file_is_named(dataset: Path, tmp_path: Path) -> None:
    rows = read_dataset(dataset)
    rows[3].path.write_bytes(b"no image at all")
    rows[8].path.write_bytes(rows[8].path.read_bytes()[:-400])
    with pytest.raises(DataError, match="2 image files cannot be decoded") as error:
        prepare(dataset, tmp_path / "out", seed=0)
    assert rows[3].image_id in str(error.value)
    assert rows[8].image_id in str(error.value)
    assert not (tmp_path / "out").exists()


def test_an_image_that_cannot_be_opened_is_named(dataset: Path, tmp_path: Path) -> None:
    row = read_dataset(dataset)[3]
    row.path.unlink()
    row.path.mkdir()
    with pytest.raises(DataError, match=f"{row.image_id}.*Is a directory"):
        prepare(dataset, tmp_path / "out", seed=0)


def test_a_class_with_too_few_lesions_is_named(dataset: Path, tmp_path: Path) -> None:
    metadata = dataset / METADATA_NAME
    lines = metadata.read_text().splitlines()
    kept = [line for line in lines if not line.startswith(("LES_df_2", "LES_df_3", "LES_df_4", "LES_df_5"))]
    metadata.write_text("\n".join(kept) + "\n")
    with pytest.raises(DataError, match="class df: 2 lesions, at least 3 are needed"):
        prepare(dataset, tmp_path / "out", seed=0)


def test_the_split_under_a_run_is_not_replaced_by_another(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(dataset, out, seed=0)
    (out / "recipe.json").write_text("{}")
    before = (out / SPLIT_NAME).read_bytes()
    prepare(dataset, out, seed=0)
    with pytest.raises(DataError, match="holds a run with another split"):
        prepare(dataset, out, seed=1)
    assert (out / SPLIT_NAME).read_bytes() == before
