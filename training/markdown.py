"""Formats tables and metrics in Markdown, for the reports and the model card."""

from collections.abc import Iterable, Mapping, Sequence

from models.manifest.fields import Interval

NONE = "–"
"""Shown for an undefined metric."""


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a table and an empty line; an empty list if there are no rows.

    Bars within cells are escaped.
    """
    lines = [f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    if not lines:
        return []
    return [f"| {' | '.join(headings)} |", f"|{' --- |' * len(headings)}", *lines, ""]


def replace_section(text: str, lines: Sequence[str]) -> str:
    """Replace one section of ``text``.

    Args:
        text: a Markdown document.
        lines: the new section; the first line is the section's heading, ``## …``.

    Raises:
        ValueError: ``text`` has no section with this heading.
    """
    before, heading, after = f"\n{text}".partition(f"\n{lines[0]}\n")
    if not heading:
        raise ValueError(f"no section {lines[0]}")
    _, following, rest = after.partition("\n## ")
    return "\n".join([before, *lines]).removeprefix("\n") + following + rest


def format_metric(metric: Interval | Mapping[str, float] | None) -> str:
    """Format a metric with its interval, as ``0.812 [0.780, 0.841]``, or as a dash if it is None."""
    if metric is None:
        return NONE
    value = metric.model_dump() if isinstance(metric, Interval) else metric
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
