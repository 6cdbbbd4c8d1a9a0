"""The figures of a run by repetition, saved as JSON."""

import json
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
    """One cell of one repetition.

    Attributes:
        repetition: counted from 0.
        subject: what was measured: ``limit``, ``dermaserve`` or a peer's name.
        cell: how it was measured, such as ``multipart 16``; see ``bench.rounds``.
        values: figures by name, in seconds, bytes, images per second, or shares.
        error: why the figures do not count or are missing; empty if they count.
    """

    repetition: int
    subject: str
    cell: str
    values: Mapping[str, float]
    error: str = ""


@dataclass
class Results:
    """All entries of a run, with its machine and settings."""

    machine: dict[str, str]
    settings: dict[str, Any]
    entries: list[Entry] = field(default_factory=list)

    def add(
        self, repetition: int, subject: str, cell: str, values: Mapping[str, float], error: str = ""
    ) -> None:
        """Add an entry."""
        self.entries.append(Entry(repetition, subject, cell, values, error))

    def of(self, subject: str, cell: str, value: str) -> dict[int, float]:
        """The figure ``value`` by repetition; the mean where a repetition has several entries of a cell."""
        found: dict[int, list[float]] = {}
        for entry in self.entries:
            if (entry.subject, entry.cell) == (subject, cell) and not entry.error and value in entry.values:
                found.setdefault(entry.repetition, []).append(entry.values[value])
        return {repetition: statistics.mean(values) for repetition, values in found.items()}

    def limit(self, value: str = "throughput", size: str = "600x450") -> dict[int, float]:
        """A figure of the limit, for images of a size, at the batch size with the highest median.

        The batch size is the same for all repetitions: the best of each would be the luckiest.
        """
        cells = {e.cell for e in self.entries if e.subject == "limit" and e.cell.startswith(f"{size}, ")}
        rates = {cell: self.of("limit", cell, "throughput") for cell in sorted(cells)}
        rates = {cell: found for cell, found in rates.items() if found}
        best = max(rates, key=lambda cell: statistics.median(rates[cell].values()), default="")
        return self.of("limit", best, value)

    def failures(self) -> list[Entry]:
        """Entries that do not count."""
        return [entry for entry in self.entries if entry.error]

    def save(self, path: Path) -> None:
        """Write everything; an interrupted call leaves the previous file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
        part.replace(path)


def ratio(above: Mapping[int, float], below: Mapping[int, float]) -> list[float]:
    """``above`` over ``below`` in each repetition that has both."""
    return list(ratios(above, below).values())


def ratios(above: Mapping[int, float], below: Mapping[int, float]) -> dict[int, float]:
    """``above`` over ``below`` by repetition, for those that have both."""
    return {at: above[at] / below[at] for at in sorted(above.keys() & below.keys())}
