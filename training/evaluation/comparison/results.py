"""The tables of a comparison, for Markdown and for the page."""

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
    """A cell of a table.

    Attributes:
        text: its text.
        note: an interval or a remark after the text.
        key: sort key; None sorts last.
        strong: whether the text is bold.
    """

    text: str
    note: str = ""
    key: float | str | None = None
    strong: bool = False

    @property
    def plain(self) -> str:
        """Text and note in Markdown."""
        return f"{f'**{self.text}**' if self.strong else self.text} {self.note}".strip()


@dataclass(frozen=True)
class Table:
    """A table with titled columns; the first column names the row."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def markdown(self, columns: Sequence[str] | None = None) -> str:
        """Return the table in Markdown: all columns, or the first column and the given ones."""
        chosen = [
            index
            for index, title in enumerate(self.columns)
            if index == 0 or columns is None or title in columns
        ]
        rows = ([row[index].plain for index in chosen] for row in self.rows)
        return "\n".join(table([self.columns[index] for index in chosen], rows)).strip()


FACTS = ("task", "recipe", "colour", "image size", "parameters", "training seconds")
"""The columns with properties of a run, as opposed to metrics."""


def result_table(scored: Sequence[Scored]) -> Table:
    """Return a table with a row for each run and member: the metrics with intervals, then the properties."""
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
        rows.append((name, *(_metric(row.metrics.get(key)) for key in wanted), *facts))
    return Table(("model", *wanted.values(), *FACTS), tuple(rows))


def difference_table(found: Sequence[Difference]) -> Table:
    """Return a table of the paired differences, and whether their intervals exclude 0."""
    rows = tuple(
        (_text(f"{pair.first} − {pair.second}"), *(_difference(pair, name) for name in COMPARED))
        for pair in found
    )
    return Table(("difference", *(titles(())[name] for name in COMPARED)), rows)


def _text(text: str) -> Cell:
    return Cell(text, key=text)


def _metric(metric: dict[str, float] | None) -> Cell:
    if metric is None:
        return Cell("–")
    return Cell(f"{metric['value']:.3f}", f"[{metric['low']:.3f}, {metric['high']:.3f}]", metric["value"])


def _count(count: float) -> Cell:
    return Cell("–") if math.isnan(count) else Cell(f"{count:,.0f}", key=count)


def _difference(pair: Difference, name: str) -> Cell:
    if name not in pair.metrics:
        return Cell("–")
    metric = pair.metrics[name]
    excludes = pair.excludes_zero(name)
    verdict = "excludes 0" if excludes else "includes 0"
    note = f"[{_signed(metric['low'])}, {_signed(metric['high'])}] {verdict}"
    return Cell(_signed(metric["value"]), note, metric["value"], strong=excludes)


def _signed(value: float) -> str:
    text = f"{value:+.3f}"
    return "0.000" if float(text) == 0 else text.replace("-", "−")


@dataclass(frozen=True)
class Results:
    """The results of a group.

    Attributes:
        group: runs with the same test images.
        baseline: the run with which all others are compared, of any group; None compares all pairs.
        scored: the metrics of each run and member.
        pairs: the paired differences.
        table: the table of the metrics.
        pair_table: the table of the differences.
    """

    group: Group
    baseline: ComparedRun | None
    scored: tuple[Scored, ...]
    pairs: tuple[Difference, ...]
    table: Table
    pair_table: Table

    @property
    def runs(self) -> list[Scored]:
        """The rows of the runs, without those of their members."""
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
