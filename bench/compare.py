"""Whether one run gave what another did: their tables, cell by cell.

    python -m bench.compare runs/bench/report.md bench/README.md

Prints the cells of ONE whose median lies outside OTHER's spread, how many do not, and how many chance would
put there: of two runs of five independent repetitions of the same thing one median in six lies outside, and
one pair of spreads in 126 has nothing in common. (Of ten values in any order, the median of the five of ONE
lies above or below all of OTHER in 2 x 21 of 252 cases, all five in 2.) Cells are not independent of each
other, and repetitions of one run share the machine's state, so more than that is no proof of a difference.
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
    """All figures with a spread in the tables of a Markdown text.

    Raises:
        ValueError: two stand at the same place.
    """
    found: dict[Cell, Figure] = {}
    for cell, figure in _figures(text):
        if found.setdefault(cell, figure) is not figure:
            raise ValueError(f"expected one figure for each cell, got two for {', '.join(cell)}")
    return found


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
                figure = Figure(*map(float, found.groups()))
                if figure.low < figure.high:  # else it is the unit, was measured once, or is always the same
                    yield Cell(heading, row, column), figure


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
    count, outside = len(both), len(both) - within
    said = (
        f"{within} of {count} medians lie within the other's spread, {outside} do not (by chance "
        f"{count / 6:.0f}); {apart} spreads do not touch (by chance {count / 126:.0f}).\n"
        f"{len(first) - count} figures are only in the first, {len(second) - count} only in the second.\n"
    )
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
