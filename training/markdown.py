"""Tables and figures in Markdown, for the report and the model card."""

from collections.abc import Iterable, Mapping, Sequence

from models.fields import Interval

NONE = "–"
"""What stands where a figure is not defined."""


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a table, with an empty line after it; no lines if there are no rows.

    A bar within a cell is escaped.
    """
    lines = [f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    if not lines:
        return []
    return [f"| {' | '.join(headings)} |", f"|{' --- |' * len(headings)}", *lines, ""]


def replace_section(text: str, lines: Sequence[str]) -> str:
    """``text`` with ``lines``, of which the first is a heading ``## …``, for its section of that heading.

    Raises:
        ValueError: there is no such section.
    """
    before, heading, after = f"\n{text}".partition(f"\n{lines[0]}\n")
    if not heading:
        raise ValueError(f"no section {lines[0]}")
    _, following, rest = after.partition("\n## ")
    return "\n".join([before, *lines]).removeprefix("\n") + following + rest


def figure(found: Interval | Mapping[str, float] | None) -> str:
    """A figure with its interval, as ``0.812 [0.780, 0.841]``; a dash if there is no figure."""
    if found is None:
        return NONE
    value = found.model_dump() if isinstance(found, Interval) else found
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
