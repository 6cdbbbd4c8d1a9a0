"""Checks a data set, describes it and splits it by lesion."""

from dataclasses import dataclass
from pathlib import Path

from training.data.dataset import DataError, Row, duplicate_groups, read_dataset
from training.data.folds import fold_path, make_folds
from training.data.near_duplicates import SIZE, NearDuplicate, near_duplicates
from training.data.pixels import read_thumbnails
from training.data.report import crossing_lesions, describe, plot_data
from training.data.split import BY_IMAGE_WARNING, Split, SplitBy, make_split, read_split, write_split

SPLIT_NAME = "split.csv"


@dataclass(frozen=True)
class Prepared:
    """A checked data set.

    Attributes:
        rows: the images.
        pairs: near-duplicate images of different lesions.
        splits: the splits by file name: one, or one per fold.
    """

    rows: list[Row]
    pairs: list[NearDuplicate]
    splits: dict[str, Split]

    @property
    def by_image(self) -> bool:
        """Whether the split is by image, so that metrics from it are too high."""
        return any(split.by == "image" for split in self.splits.values())

    @property
    def summary(self) -> str:
        """A summary of one line, followed by a warning if the split is by image."""
        lesions = len({row.lesion_id for row in self.rows})
        differ = sum(1 for pair in self.pairs if pair.first.dx != pair.second.dx)
        crossing = sum(crossing_lesions(self.rows, split) for split in self.splits.values())
        text = (
            f"{len(self.rows)} images of {lesions} lesions; {len(self.pairs)} near-duplicate pairs between "
            f"lesions ({differ} with different diagnoses); {crossing} lesions in more than one part"
        )
        return text + (f"\nWARNING: {BY_IMAGE_WARNING}" if self.by_image else "")


def prepare(
    data: Path,
    out: Path,
    *,
    seed: int,
    validation: float = 0.15,
    test: float = 0.15,
    by: SplitBy = "lesion",
    folds: int | None = None,
) -> Prepared:
    """Check the data set, then write the split, ``data.md`` and ``data.png``.

    Every image of the data set is decoded, test images included, to find damaged files and near-duplicates.
    This only groups images; it does not influence the choice or the metrics of a model.

    Args:
        data: folder of the data set in its published layout.
        out: folder for the files: ``split.csv``, or ``fold-1.csv``, ``fold-2.csv`` … with ``folds``.
        seed: seed of the split.
        validation, test: as in ``make_split``; ignored with ``folds``, where each part is one fold.
        by: ``"image"`` lets images of one lesion lie in several parts, to measure the leakage.
        folds: number of folds for cross-validation; None makes a single split.

    Raises:
        DataError: the data set cannot be used, ``folds`` is combined with a split by image, or ``out``
            holds a run with another split. Nothing is written then.
    """
    if folds is not None and by == "image":
        raise DataError("folds are made by lesion only; a split by image cannot have folds")
    rows = read_dataset(data)
    thumbnails = read_thumbnails(rows, SIZE)
    equal_files = duplicate_groups(rows)
    pairs = near_duplicates(rows, thumbnails)
    duplicates = [*equal_files, *((pair.first, pair.second) for pair in pairs)]
    if folds is None:
        split = make_split(rows, seed=seed, validation=validation, test=test, duplicates=duplicates, by=by)
        splits = {SPLIT_NAME: split}
    else:
        made = make_folds(rows, folds=folds, seed=seed, duplicates=duplicates)
        splits = {fold_path(out, number).name: fold for number, fold in enumerate(made, start=1)}
    _check_run(out, rows, splits)
    out.mkdir(parents=True, exist_ok=True)
    for name, split in splits.items():
        write_split(out / name, rows, split)
    plot_data(out / "data.png", rows, next(iter(splits.values())))
    text = describe(data.name, rows, splits, equal_files, pairs)
    (out / "data.md").write_text(text, encoding="utf-8")
    return Prepared(rows, pairs, splits)


def _check_run(out: Path, rows: list[Row], splits: dict[str, Split]) -> None:
    """Raise DataError if ``out`` holds a run that was trained with another split."""
    file = out / SPLIT_NAME
    has_run = (out / "recipe.json").is_file() and file.is_file()
    if has_run and SPLIT_NAME in splits and read_split(file, rows) != splits[SPLIT_NAME]:
        raise DataError(f"{out}: holds a run with another split; choose another folder")
