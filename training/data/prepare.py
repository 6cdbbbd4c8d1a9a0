"""Check a data set, describe it, and split it by lesion."""

from dataclasses import dataclass
from pathlib import Path

from training.data.dataset import DataError, Row, duplicate_groups, read_dataset
from training.data.folds import fold_path, make_folds
from training.data.near_duplicates import SIZE, NearDuplicate, near_duplicates
from training.data.pixels import read_thumbnails
from training.data.report import crossing_lesions, describe, plot_data
from training.data.split import FLATTERS, Split, SplitBy, make_split, read_split, write_split

SPLIT_NAME = "split.csv"


@dataclass(frozen=True)
class Prepared:
    """A checked data set.

    Attributes:
        rows: its images.
        pairs: images of different lesions that show the same.
        splits: by the name of the file; one, or one a fold.
    """

    rows: list[Row]
    pairs: list[NearDuplicate]
    splits: dict[str, Split]

    @property
    def by_image(self) -> bool:
        """Whether the split is by image, so that figures from it are too high."""
        return any(split.by == "image" for split in self.splits.values())

    @property
    def summary(self) -> str:
        """One line; a second one warns of a split by image."""
        lesions = len({row.lesion_id for row in self.rows})
        differ = sum(1 for pair in self.pairs if pair.first.dx != pair.second.dx)
        crossing = sum(crossing_lesions(self.rows, split) for split in self.splits.values())
        text = (
            f"{len(self.rows)} images of {lesions} lesions; {len(self.pairs)} near-duplicate pairs between "
            f"lesions ({differ} with different diagnoses); {crossing} lesions in more than one part"
        )
        return text + (f"\nWARNING: {FLATTERS}" if self.by_image else "")


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
    """Check every row against its file, then write the split, ``data.md`` and ``data.png``.

    Every file is decoded to see that it is whole and which show the same picture. That looks at
    files and groups them; no figure that a model is chosen or judged by comes of it.

    Args:
        data: folder of the data set in its published layout.
        out: folder for the files: ``split.csv``, or ``fold-1.csv`` and so on.
        seed: of the split.
        validation, test: shares of the images; not for folds, where each is one fold.
        by: ``"image"`` lets photographs of one lesion lie in several parts, to measure what that does.
        folds: for cross-validation, their number.

    Raises:
        DataError: the data set is not usable, folds are asked for by image, or ``out`` holds a run
            of another split; nothing is written.
    """
    if folds is not None and by == "image":
        raise DataError("folds are made by lesion only; a split by image is a single one")
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
    """Refuse to put another split under a run that was trained with the one in its folder."""
    file = out / SPLIT_NAME
    has_run = (out / "recipe.json").is_file() and file.is_file()
    if has_run and SPLIT_NAME in splits and read_split(file, rows) != splits[SPLIT_NAME]:
        raise DataError(f"{out} holds a run of another split; choose another folder")
