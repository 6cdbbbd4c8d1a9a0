"""Measures with servers and child processes, and records what comes of it, failures too.

A server that does not start, or answers wrongly, is an entry with its reason; it does not end the run.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.load import Load
from bench.results import Results
from bench.servers import ROOT, Server, ServerError
from models.errors import DermaserveError

_CHILD_TIMEOUT = 1800  # seconds
_IDLE_SECONDS = 5.0  # at least: Linux counts processor time in hundredths


class ChildError(DermaserveError):
    """A measuring process ended with an error."""


class Recorder:
    """Adds entries to ``results``."""

    def __init__(self, results: Results, *, images: Path, seconds: float) -> None:
        """Prepare.

        Args:
            results: what everything is added to.
            images: folder that requests take their images from, unless they say otherwise.
            seconds: of a closed-loop cell.
        """
        self.results = results
        self._images, self._seconds = images, seconds

    def serve(
        self,
        repetition: int,
        subject: str,
        server: Server,
        cells: Callable[[Server], None],
        *,
        process: str = "process",
    ) -> None:
        """Start the server, measure ``cells``, stop it; what it took besides is the cell ``process``.

        Unless that has another name, the server is left idling before, too.
        """
        print(f"[{repetition + 1}] {subject}: {process}", flush=True)
        try:
            with server:
                values: dict[str, float] = {"ready": server.ready_after, "rss at start": server.vitals().rss}
                if process == "process":
                    server.settle()
                    values["idle"] = server.idle_cpu(max(self._seconds, _IDLE_SECONDS))
                cells(server)
                end = server.vitals()
        except ServerError as error:
            self.results.add(repetition, subject, process, {}, str(error))
            print(f"  {subject}: {error}", flush=True)
            return
        values |= {"processes": end.processes, "rss": end.rss, "pss": end.pss, "peak": end.peak}
        self.results.add(repetition, subject, process, values)

    def load(self, repetition: int, subject: str, cell: str, server: Server, **changes: Any) -> float | None:
        """Measure one cell, ``changes`` being fields of ``Load``; returns its throughput, None if invalid."""
        common: dict[str, Any] = {
            "port": server.port,
            "leader": server.leader,
            "images": str(self._images),
            "seconds": self._seconds,
            "warm_up": self._seconds / 4,
        }
        load = Load(**(common | changes))
        spec = json.dumps(asdict(load))
        found = self.child(repetition, subject, cell, Path(sys.executable), "bench.load", spec)
        if found is None:
            return None
        reasons = "; ".join(f"{count} x {why}" for why, count in found.pop("reasons").items())
        error = f"{found['failed']} of {found['requests']} requests failed: {reasons}" if reasons else ""
        if load.rate:
            found["rate"] = load.rate
        self.results.add(repetition, subject, cell, found, error)
        print(f"  {cell}: {error or format(found['throughput'], '.1f') + ' images/s'}", flush=True)
        return None if error else float(found["throughput"])

    def child(
        self, repetition: int, subject: str, cell: str, python: Path, module: str, *arguments: object
    ) -> dict[str, Any] | None:
        """The JSON that a measuring process prints; None, and an entry that says why, where it fails."""
        command = [str(python), "-m", module, *map(str, arguments)]
        try:
            run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_CHILD_TIMEOUT)
            if run.returncode:
                raise ChildError(f"{module} ended with {run.returncode}: {run.stderr.strip()[-400:]}")
            found: dict[str, Any] = json.loads(run.stdout)
        except (OSError, ValueError, subprocess.TimeoutExpired, ChildError) as error:
            self.results.add(repetition, subject, cell, {}, f"{type(error).__name__}: {error}")
            print(f"  {cell}: {error}", flush=True)
            return None
        return found
