"""Describes a data set and its splits in Markdown, with a plot."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from training.data.dataset import CODES, Row
from training.data.near_duplicates import NearDuplicate
from training.data.split import BY_IMAGE_WARNING, PARTS, Split, image_counts, rows_of
from training.figure_files import SAVE_OPTIONS
from training.markdown import table

_SHOWN_PAIRS = 200


def describe(
    name: str,
    rows: Sequence[Row],
    splits: Mapping[str, Split],
    equal_files: Sequence[Sequence[Row]],
    pairs: Sequence[NearDuplicate],
) -> str:
    """Return the text of ``data.md``.

    Args:
        name: name of the data set.
        rows: its images.
        splits: the splits by file name: one, or one per fold.
        equal_files: groups of images whose files are byte-identical.
        pairs: near-duplicate images of different lesions.
    """
    per_lesion = Counter(row.lesion_id for row in rows)
    several = sum(1 for count in per_lesion.values() if count > 1)
    ages = sorted(row.age for row in rows if row.age is not None)
    lines = [
        f"# Data set `{name}`",
        "",
        f"{len(rows)} images of {len(per_lesion)} lesions; {several} lesions have several images.",
        "",
        *(
            [f"**Warning: {BY_IMAGE_WARNING}.**", ""]
            if any(split.by == "image" for split in splits.values())
            else []
        ),
        *table(
            ("split", "part", "images", "lesions", *CODES),
            [line for file, split in splits.items() for line in _parts(file, rows, split)],
        ),
        *(
            f"{file}: {crossing_lesions(rows, split)} lesions in more than one part.  "
            for file, split in splits.items()
        ),
        "",
        f"Age: {len(rows) - len(ages)} unknown"
        + (f", median {ages[len(ages) // 2]:g}, {ages[0]:g} to {ages[-1]:g}." if ages else "."),
        "",
        *_counts("Sex", Counter(row.sex for row in rows)),
        *_counts("Site", Counter(row.localization for row in rows)),
        *_counts("Diagnosis confirmed by", Counter(row.dx_type for row in rows)),
        *_melanoma(rows),
        f"Byte-identical files: {len(equal_files)} groups"
        + (": " if equal_files else "")
        + "; ".join(
            ", ".join(f"{r.image_id} ({r.lesion_id}, {r.dx})" for r in group) for group in equal_files
        )
        + ".",
        "",
        *_near_duplicates(splits, pairs),
        "![Classes, ages, sexes and sites](data.png)",
        "",
    ]
    return "\n".join(lines)


def crossing_lesions(rows: Sequence[Row], split: Split) -> int:
    """Count the lesions with images in more than one part."""
    parts: dict[str, set[str]] = {}
    for row in rows:
        parts.setdefault(row.lesion_id, set()).add(split[row.image_id])
    return sum(1 for found in parts.values() if len(found) > 1)


def crossing_pairs(pairs: Sequence[NearDuplicate], split: Mapping[str, str]) -> int:
    """Count the pairs whose images are in two parts."""
    return sum(1 for pair in pairs if split[pair.first.image_id] != split[pair.second.image_id])


def _parts(file: str, rows: Sequence[Row], split: Split) -> list[tuple[object, ...]]:
    parts = {part: rows_of(rows, split, part) for part in PARTS}
    images, lesions = image_counts(parts)
    counts = {part: Counter(row.dx for row in found) for part, found in parts.items()}
    return [
        (file, part, images[part], lesions[part], *(counts[part][code] for code in CODES)) for part in PARTS
    ]


def _counts(title: str, counts: Counter[str]) -> list[str]:
    return [f"{title}: " + ", ".join(f"{name} {count}" for name, count in counts.most_common()) + ".", ""]


def _melanoma(rows: Sequence[Row]) -> list[str]:
    """Return the numbers of melanomas by age and by site, and their shares of the images there."""
    by_age = {row.image_id: "unknown" if row.age is None else _decade(row.age) for row in rows}
    by_site = {row.image_id: row.localization for row in rows}
    lines = ["## Melanoma by age and site", ""]
    for title, group_of in (("age", by_age), ("site", by_site)):
        images = Counter(group_of.values())
        melanomas = Counter(group_of[row.image_id] for row in rows if row.dx == "mel")
        groups = [name for name, _ in images.most_common()]
        if title == "age":
            groups.sort(key=lambda name: (len(name), name))  # "100–109" after "90–99", "unknown" last
        lines += table(
            (title, "images", "melanomas", "share"),
            [
                (name, images[name], melanomas[name], f"{melanomas[name] / images[name]:.3f}")
                for name in groups
            ],
        )
    return lines


def _decade(age: float) -> str:
    start = int(age) // 10 * 10
    return f"{start}–{start + 9}"


def _near_duplicates(splits: Mapping[str, Split], pairs: Sequence[NearDuplicate]) -> list[str]:
    differ = sum(1 for pair in pairs if pair.first.dx != pair.second.dx)
    crossing = sum(crossing_pairs(pairs, split) for split in splits.values())
    lines = [
        "## Near-duplicates",
        "",
        f"{len(pairs)} pairs of images of different lesions show the same spot, {differ} of them with "
        f"different diagnoses; {crossing} lie in two parts of a split. A split by lesion keeps such lesions "
        "in one part and counts them as the class of the first one. The diagnoses are not changed.",
        "",
    ]
    lines += table(
        ("similarity", "margin", *("image", "lesion", "dx") * 2, ""),
        [
            (
                f"{pair.similarity:.2f}",
                f"{pair.margin:.2f}",
                *(
                    fact
                    for row in (pair.first, pair.second)
                    for fact in (row.image_id, row.lesion_id, row.dx)
                ),
                "mirrored" if pair.mirrored else "",
            )
            for pair in pairs[:_SHOWN_PAIRS]
        ],
    )
    return [*lines, f"... and {len(pairs) - _SHOWN_PAIRS} more.", ""] if len(pairs) > _SHOWN_PAIRS else lines


def plot_data(path: Path, rows: Sequence[Row], split: Mapping[str, str]) -> None:
    """Plot the classes by part, ages, sexes and sites of a data set to the PNG file ``path``."""
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    axes = figure.subplots(2, 2)
    counts = Counter((row.dx, split[row.image_id]) for row in rows)
    bottom = np.zeros(len(CODES))
    for part in ("train", "validation", "test"):
        height = np.array([counts[code, part] for code in CODES])
        axes[0, 0].bar(CODES, height, bottom=bottom, label=part)
        bottom += height
    for index, total in enumerate(bottom):
        axes[0, 0].text(index, total, f"{total:.0f}", ha="center", va="bottom", fontsize=8)
    axes[0, 0].set(title="images by diagnosis", ylabel="images")
    axes[0, 0].legend()
    ages = [row.age for row in rows if row.age is not None]
    axes[0, 1].hist(ages, bins=np.arange(0, 95, 5) - 2.5)
    axes[0, 1].set(title=f"age in years ({len(rows) - len(ages)} unknown)", ylabel="images")
    for axis, field in ((axes[1, 0], "sex"), (axes[1, 1], "localization")):
        found = Counter(getattr(row, field) for row in rows).most_common()
        axis.barh([name for name, _ in found][::-1], [n for _, n in found][::-1])
        axis.set(title=f"{field}", xlabel="images")
    figure.savefig(path, **SAVE_OPTIONS)
