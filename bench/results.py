"""What was measured, kept and saved as JSON as it goes, and brought together again by repetition."""

import json
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

RATE, CPU = "rate ", "cpu "
"""Before a ``bench.limit.Shape``: the limit's images per second in it, and processor seconds per image."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One cell of one repetition.

    Attributes:
        repetition: counted from 0.
        subject: what was measured: ``limit``, ``dermaserve`` or a peer's name.
        cell: how, such as ``multipart 16``; see ``bench.rounds``.
        values: figures by name, in seconds, bytes, images per second, or shares.
        error: why the figures do not count, or why there is none; empty if they do.
    """

    repetition: int
    subject: str
    cell: str
    values: Mapping[str, float]
    error: str = ""


@dataclass
class Results:
    """All entries of a run, with the machine and the settings they were measured with."""

    machine: dict[str, str]
    settings: dict[str, Any]
    entries: list[Entry] = field(default_factory=list)

    def add(
        self, repetition: int, subject: str, cell: str, values: Mapping[str, float], error: str = ""
    ) -> None:
        """One more entry."""
        self.entries.append(Entry(repetition, subject, cell, values, error))

    def of(self, subject: str, cell: str, value: str) -> dict[int, float]:
        """The figure ``value`` by repetition; where a cell was measured twice in one, the mean."""
        found: dict[int, list[float]] = {}
        for entry in self.entries:
            if (entry.subject, entry.cell) == (subject, cell) and not entry.error and value in entry.values:
                found.setdefault(entry.repetition, []).append(entry.values[value])
        return {repetition: statistics.mean(values) for repetition, values in found.items()}

    def limit(self, size: str) -> dict[int, float]:
        """Images per second without a server, by repetition: those of the one best shape."""
        return self.of("limit", size, RATE + self.best_shape(size))

    def best_shape(self, size: str) -> str:
        """The shape with the highest median of those tried most often; empty if there is none.

        One for all repetitions: the best of each would be the luckiest.
        """
        tried = {
            name.removeprefix(RATE): self.of("limit", size, name)
            for entry in self.entries
            if (entry.subject, entry.cell) == ("limit", size)
            for name in entry.values
            if name.startswith(RATE)
        }
        most = max(map(len, tried.values()), default=0)
        always = {shape: series for shape, series in tried.items() if len(series) == most}
        return max(always, key=lambda shape: statistics.median(always[shape].values()), default="")

    def failures(self) -> list[Entry]:
        """Entries that do not count."""
        return [entry for entry in self.entries if entry.error]

    def save(self, path: Path) -> None:
        """Write everything; an interrupted run leaves the file as it was before."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Results":
        """Read what ``save`` wrote."""
        found = json.loads(path.read_text(encoding="utf-8"))
        return cls(found["machine"], found["settings"], [Entry(**entry) for entry in found["entries"]])


def ratio(above: Mapping[int, float], below: Mapping[int, float]) -> list[float]:
    """``above`` over ``below``, within each repetition that has both."""
    return [above[repetition] / below[repetition] for repetition in sorted(above.keys() & below.keys())]
