"""Whether one run gave what another did: their tables, cell by cell.

    python -m bench.compare runs/bench/report.md bench/README.md

Prints the cells whose median lies outside the other run's spread, and how many do not. Of two runs of five
repetitions of the same thing chance alone puts one median in six outside, and one pair of spreads in 126
apart: so a few cells outside say nothing, and spreads that do not touch say something.
"""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench.report import table

_FIGURE = re.compile(r"(\d+(?:\.\d+)?) \((\d+(?:\.\d+)?)–(\d+(?:\.\d+)?)\)")


class Figure(NamedTuple):
    """The median of a cell, and its least and most."""

    median: float
    low: float
    high: float

    def within(self, other: "Figure") -> bool:
        """Whether the median lies in the other's spread."""
        return other.low <= self.median <= other.high

    def touches(self, other: "Figure") -> bool:
        """Whether the spreads have anything in common."""
        return self.low <= other.high and other.low <= self.high


class Cell(NamedTuple):
    """Where a figure stands: under which heading, in which row and column."""

    heading: str
    row: str
    column: str


def figures(text: str) -> dict[Cell, Figure]:
    """All figures with a spread in the tables of a Markdown text."""
    return dict(_figures(text))


def _figures(text: str) -> Iterator[tuple[Cell, Figure]]:
    heading, head = "", None
    for line in text.splitlines():
        if not line.startswith("|"):
            head = None
            if line.startswith("#"):
                heading = line.strip("# ")
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if head is None:
            head = cells
            continue
        row = ", ".join(cell for cell in cells if cell and not _FIGURE.fullmatch(cell) and cell != "–")
        # A verdict stands behind the figures, and may differ.
        row = re.sub(r", (met|missed)$", "", row)
        for column, cell in zip(head, cells, strict=True):
            if found := _FIGURE.fullmatch(cell):
                yield Cell(heading, row, column), Figure(*map(float, found.groups()))


def comparison(one: str, other: str) -> str:
    """What stands in both texts, compared, as Markdown."""
    first, second = figures(one), figures(other)
    both = [cell for cell in first if cell in second]
    within = sum(first[cell].within(second[cell]) for cell in both)
    apart = sum(not first[cell].touches(second[cell]) for cell in both)
    rows = [
        [
            *cell,
            *(
                f"{figure.median:g} ({figure.low:g}–{figure.high:g})"
                for figure in (first[cell], second[cell])
            ),
            "" if first[cell].touches(second[cell]) else "apart",
        ]
        for cell in both
        if not first[cell].within(second[cell])
    ]
    said = f"{within} of {len(both)} medians lie within the other's spread; {apart} spreads do not touch.\n"
    return said + ("\n" + table(["table", "row", "column", "one", "other", "spreads"], rows) if rows else "")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("one", type=Path, help="a report.md, or a page with its tables")
    parser.add_argument("other", type=Path, help="another")
    options = parser.parse_args()
    print(comparison(*(path.read_text(encoding="utf-8") for path in (options.one, options.other))))


if __name__ == "__main__":
    main()
