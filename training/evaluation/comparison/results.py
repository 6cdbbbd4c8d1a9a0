"""The tables of a comparison, the same for Markdown and for the page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from training.evaluation.comparison.runs import ComparedRun, Group, count_parameters
from training.evaluation.comparison.scoring import (
    COMPARED,
    Difference,
    Scored,
    differences,
    score_group,
    titles,
)
from training.markdown import table


@dataclass(frozen=True)
class Cell:
    """What stands in a table: a text, an interval or remark beside it, and what to sort by."""

    text: str
    note: str = ""
    key: float | str | None = None  # None: unknown, sorted last
    strong: bool = False

    @property
    def plain(self) -> str:
        """Text and note on one line of Markdown."""
        return f"{f'**{self.text}**' if self.strong else self.text} {self.note}".strip()


@dataclass(frozen=True)
class Table:
    """Rows of cells under the titles of their columns; the first column names the row."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def markdown(self, columns: Sequence[str] | None = None) -> str:
        """The table as Markdown, or the first column and those named."""
        chosen = [
            index
            for index, title in enumerate(self.columns)
            if index == 0 or columns is None or title in columns
        ]
        rows = ([row[index].plain for index in chosen] for row in self.rows)
        return "\n".join(table([self.columns[index] for index in chosen], rows)).strip()


FACTS = ("task", "recipe", "colour", "image size", "parameters", "training seconds")
"""The columns of a run's properties, as opposed to what was measured."""


def result_table(scored: Sequence[Scored]) -> Table:
    """Every figure with its interval, and what the models are; one row per run and member."""
    wanted = titles(scored[0].run.predictions.codes)
    rows = []
    for row in scored:
        run = row.run
        height, width = run.image_size
        facts = (
            _text(run.task),
            _text(str(run.recipe.get("name", "–"))),
            _text(run.color),
            Cell(f"{height} × {width}", key=float(height * width)),
            _count(count_parameters(run, row.member)),
            _count(run.seconds(row.member)),
        )
        name = Cell(row.name, "" if row.member is None else "(member)", row.name)
        rows.append((name, *(_figure(row.figures.get(key)) for key in wanted), *facts))
    return Table(("model", *wanted.values(), *FACTS), tuple(rows))


def difference_table(found: Sequence[Difference]) -> Table:
    """The differences of pairs, and whether their intervals exclude 0."""
    rows = tuple(
        (_text(f"{pair.first} − {pair.second}"), *(_difference(pair, name) for name in COMPARED))
        for pair in found
    )
    return Table(("difference", *(titles(())[name] for name in COMPARED)), rows)


def _text(text: str) -> Cell:
    return Cell(text, key=text)


def _figure(figure: dict[str, float] | None) -> Cell:
    if figure is None:
        return Cell("–")
    return Cell(f"{figure['value']:.3f}", f"[{figure['low']:.3f}, {figure['high']:.3f}]", figure["value"])


def _count(count: float) -> Cell:
    return Cell("–") if math.isnan(count) else Cell(f"{count:,.0f}", key=count)


def _difference(pair: Difference, name: str) -> Cell:
    if name not in pair.figures:
        return Cell("–")
    figure = pair.figures[name]
    excludes = pair.excludes_zero(name)
    verdict = "excludes 0" if excludes else "includes 0"
    note = f"[{_signed(figure['low'])}, {_signed(figure['high'])}] {verdict}"
    return Cell(_signed(figure["value"]), note, figure["value"], strong=excludes)


def _signed(value: float) -> str:
    text = f"{value:+.3f}"
    return "0.000" if float(text) == 0 else text.replace("-", "−")


@dataclass(frozen=True)
class Results:
    """The results of a group.

    Attributes:
        group: runs on the same test images.
        baseline: with which all are compared, from whatever group; None compares all pairs.
        scored: each run's and member's figures.
        pairs: the differences.
        table: of the figures.
        pair_table: of the differences.
    """

    group: Group
    baseline: ComparedRun | None
    scored: tuple[Scored, ...]
    pairs: tuple[Difference, ...]
    table: Table
    pair_table: Table

    @property
    def runs(self) -> list[Scored]:
        """The runs as wholes, without their members."""
        return [row for row in self.scored if row.member is None]


def compute(group: Group, baseline: ComparedRun | None, *, resamples: int) -> Results:
    """Score ``group`` and compare its runs."""
    scored = score_group(group, resamples=resamples)
    pairs = differences(scored, baseline)
    return Results(
        group=group,
        baseline=baseline,
        scored=tuple(scored),
        pairs=tuple(pairs),
        table=result_table(scored),
        pair_table=difference_table(pairs),
    )
