"""Check a data set, describe it, and split it by lesion."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from training.data import CODES, DataError, Row, duplicate_groups, read_dataset
from training.plots import plot_data
from training.run import image_counts
from training.split import PARTS, Split, make_split, rows_of, write_split

SPLIT_NAME = "split.csv"


def prepare(data: Path, out: Path, *, seed: int, validation: float = 0.15, test: float = 0.15) -> Split:
    """Check every row against its file and write ``split.csv``, ``data.md`` and ``data.png``.

    Args:
        data: folder of the data set in its published layout.
        out: folder for the three files.
        seed: of the split.
        validation, test: shares of the images.

    Raises:
        DataError: the data set is not usable; nothing is written.
    """
    rows = read_dataset(data)
    _check_files(rows)
    duplicates = duplicate_groups(rows)
    split = make_split(rows, seed=seed, validation=validation, test=test, duplicates=duplicates)
    out.mkdir(parents=True, exist_ok=True)
    write_split(out / SPLIT_NAME, rows, split)
    plot_data(out / "data.png", rows, split)
    (out / "data.md").write_text(_describe(data.name, rows, split, duplicates), encoding="utf-8")
    return split


def _check_files(rows: Sequence[Row]) -> None:
    """Raise DataError naming every file that is not a whole image; decoded at a reduced size."""

    def problem(row: Row) -> str | None:
        try:
            with Image.open(row.path) as image:
                image.draft("RGB", (image.width // 8, image.height // 8))
                image.load()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            return f"{row.path}: {error}"
        return None

    with ThreadPoolExecutor() as pool:
        problems = [text for text in pool.map(problem, rows) if text]
    if problems:
        shown = "\n  ".join(problems[:10])
        raise DataError(f"{len(problems)} image files cannot be decoded:\n  {shown}")


def _describe(name: str, rows: Sequence[Row], split: Split, duplicates: Sequence[Sequence[Row]]) -> str:
    parts = {part: rows_of(rows, split, part) for part in PARTS}
    images, lesions = image_counts(parts)
    per_lesion = Counter(row.lesion_id for row in rows)
    several = [lesion for lesion, count in per_lesion.items() if count > 1]
    parts_of: dict[str, set[str]] = {}
    for row in rows:
        parts_of.setdefault(row.lesion_id, set()).add(split[row.image_id])
    crossing = sum(1 for found in parts_of.values() if len(found) > 1)
    by_class = Counter((row.dx, split[row.image_id]) for row in rows)
    ages = sorted(row.age for row in rows if row.age is not None)
    lines = [
        f"# Data set `{name}`",
        "",
        f"{len(rows)} images of {len(per_lesion)} lesions; {len(several)} lesions have several images; "
        f"{crossing} lesions lie in more than one part of the split.",
        "",
        "| part | images | lesions | " + " | ".join(CODES) + " |",
        "| --- " * (3 + len(CODES)) + "|",
        *(
            f"| {part} | {images[part]} | {lesions[part]} | "
            + " | ".join(str(by_class[code, part]) for code in CODES)
            + " |"
            for part in PARTS
        ),
        "",
        f"Age: {len(rows) - len(ages)} unknown"
        + (f", median {ages[len(ages) // 2]:g}, {ages[0]:g} to {ages[-1]:g}." if ages else "."),
        "",
        *_counts("Sex", Counter(row.sex for row in rows)),
        *_counts("Site", Counter(row.localization for row in rows)),
        *_counts("Diagnosis confirmed by", Counter(row.dx_type for row in rows)),
        f"Files equal to the byte: {len(duplicates)} groups"
        + (": " if duplicates else "")
        + "; ".join(
            ", ".join(f"{row.image_id} ({row.lesion_id}, {row.dx})" for row in group) for group in duplicates
        )
        + ".",
        "",
        "![Classes, ages, sexes and sites](data.png)",
        "",
    ]
    return "\n".join(lines)


def _counts(title: str, counts: Counter[str]) -> list[str]:
    return [f"{title}: " + ", ".join(f"{name} {count}" for name, count in counts.most_common()) + ".", ""]
