"""Everything that is computed of one group of runs, once, for the page and for Markdown."""

from dataclasses import dataclass

from training.comparison.figures import Difference, Scored, differences, score_group
from training.comparison.runs import ComparedRun, Group
from training.comparison.tables import Table, difference_table, result_table


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
