"""The order of the measurements: each repetition takes the limit, this service and every peer in turn.

Ratios are formed within a repetition, so a machine that slows down slows both sides. The servers take turns
in going first. The limit is measured before, between and after them.

Cells are named ``FORM CLIENTS``, such as ``multipart 16``: closed loop, forms ``raw``, ``multipart``,
``gradcam`` (multipart with ``gradcam=true``) and ``12mp`` (raw). ``half even`` and ``half poisson``: open
loop at half the throughput of 16 clients in the same repetition. ``process``: start, idling and memory.
``memory``: after many requests. A server that does not start or answers wrongly is an entry with the
reason; the run goes on.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from bench.images import read_images
from bench.load import Load, fault
from bench.peers import ROOT, Options, Peer
from bench.peers.common import Classifier
from bench.results import Results
from bench.servers import Server, ServerError, our_service, peer_server
from models.errors import DermaserveError

OURS = "dermaserve"
CLIENTS = (1, 4, 16, 64)
_AT = 16  # clients of what is measured with one number of clients
_OPEN_LOOP = 5  # times the seconds of a closed loop, for the hundreds of answers that a p99 needs
_IDLE_SECONDS = 5.0  # at least: Linux counts processor time in hundredths
_CHILD_TIMEOUT = 1800  # seconds
_TOLERANCE = 1e-4  # of a probability
_OVERLAY = "/predict?gradcam=true"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured, and for how long.

    Attributes:
        model: the shipped ONNX file.
        bundle: of this service, if not the shipped one.
        python: of the environment of this service.
        images: folders by size.
        parts: some of ``limit``, ``service``, ``peers``, ``memory``.
        seconds: of each closed-loop cell; an open loop takes five times as long.
        requests: before memory is measured.
        logs: folder for the output of servers.
    """

    model: Path
    bundle: Path | None
    python: Path
    images: dict[str, Path]
    peers: Sequence[Peer]
    parts: frozenset[str]
    repetitions: int
    seconds: float
    clients: Sequence[int]
    requests: int
    logs: Path


class Rounds:
    """Measures a ``Plan`` and adds the entries to ``results``."""

    def __init__(self, plan: Plan, results: Results, *, save: Callable[[], None]) -> None:
        """Prepare; ``save`` is called after each part, so that an interrupted run keeps its figures."""
        self._plan, self._results, self._save = plan, results, save

    def run(self) -> None:
        """Measure everything."""
        plan = self._plan
        for repetition in range(plan.repetitions):
            servers: list[tuple[str, Callable[[int], None]]] = [("service", self._service)]
            servers += [("peers", partial(self._peer, peer)) for peer in plan.peers]
            first = repetition % len(servers)
            servers = [*servers[first:], *servers[:first]]
            limit, half = ("limit", self._limit), len(servers) // 2
            for part, step in [limit, *servers[:half], limit, *servers[half:], limit]:
                if part in plan.parts:
                    step(repetition)
                    self._save()
        if "memory" in plan.parts:
            self._memory()
            self._save()

    def _limit(self, repetition: int) -> None:
        for size, folder in self._plan.images.items():
            arguments = ["--model", self._plan.model, "--images", folder, "--seconds", self._plan.seconds / 2]
            try:
                found = run_module(self._plan.python, "bench.limit", *arguments)
            except ChildError as error:
                self._add(repetition, "limit", size, {}, str(error))
                continue
            self._add(repetition, "limit", size, {"single": found["single"]})
            for batch, values in found["batches"].items():
                self._add(repetition, "limit", f"{size}, batch {batch}", values)

    def _service(self, repetition: int) -> None:
        def cells(server: Server) -> None:
            load = partial(self._load, repetition, OURS, server)
            capacity = None
            for clients in sorted(self._plan.clients):
                rate = load(f"raw {clients}", clients=clients)
                capacity = rate if clients <= _AT else capacity
                load(f"multipart {clients}", clients=clients, form="multipart")
                load(f"gradcam {clients}", clients=clients, form="multipart", path=_OVERLAY)
            load(f"12mp {_AT}", clients=_AT, images=str(self._plan.images["12mp"]))
            if capacity:
                seconds = _OPEN_LOOP * self._plan.seconds
                for arrivals in ("even", "poisson"):
                    open_loop = {"rate": capacity / 2, "arrivals": arrivals, "seed": repetition}
                    load(f"half {arrivals}", seconds=seconds, **open_loop)

        self._serve(repetition, OURS, self._ours(), cells)

    def _peer(self, peer: Peer, repetition: int) -> None:
        def cells(server: Server) -> None:
            if peer.onnx:
                check_answer(server, self._plan.model, read_images(self._plan.images["600x450"])[0])
            for clients in self._plan.clients:
                cell = f"multipart {clients}"
                self._load(repetition, peer.name, server, cell, clients=clients, form="multipart")

        log = self._plan.logs / f"{peer.name}.log"
        server = peer_server(peer, model=self._plan.model, log=log)
        self._serve(repetition, peer.name, server, cells)

    def _memory(self) -> None:
        """Send half of the requests raw, half multipart with an overlay, to a server of its own."""

        def cells(server: Server) -> None:
            load = partial(self._load, 0, OURS, server, clients=_AT, requests=self._plan.requests // 2)
            first, second = load("memory, raw"), load("memory, gradcam", form="multipart", path=_OVERLAY)
            error = "" if first and second else "requests failed"
            values = {"rss": server.usage().rss, "requests": 2 * (self._plan.requests // 2)}
            self._add(0, OURS, "memory", values, error)

        self._serve(0, OURS, self._ours(), cells, process="process, memory")

    def _ours(self) -> Server:
        log = self._plan.logs / "dermaserve.log"
        return our_service(self._plan.python, log=log, bundle=self._plan.bundle)

    def _serve(
        self,
        repetition: int,
        subject: str,
        server: Server,
        cells: Callable[[Server], None],
        *,
        process: str = "process",
    ) -> None:
        """Start the server, measure ``cells``, let it idle, stop it; its own figures are ``process``."""
        try:
            with server:
                cells(server)
                idle = server.idle_cpu(max(self._plan.seconds, _IDLE_SECONDS))
                values = {"ready": server.ready_after, "idle": idle, **server.usage()._asdict()}
        except ServerError as error:
            self._add(repetition, subject, process, {}, str(error))
        else:
            self._add(repetition, subject, process, values)

    def _load(self, repetition: int, subject: str, server: Server, cell: str, **changes: Any) -> float | None:
        """Measure one cell, with ``changes`` to the fields of ``Load``; its throughput, None if invalid."""
        seconds = self._plan.seconds
        common: dict[str, Any] = {
            "images": str(self._plan.images["600x450"]),
            "seconds": seconds,
            "warm_up": seconds / 4,
        }
        load = Load(port=server.port, leader=server.leader, **(common | changes))
        try:
            found = run_module(Path(sys.executable), "bench.load", json.dumps(asdict(load)))
        except ChildError as failure:
            self._add(repetition, subject, cell, {}, str(failure))
            return None
        reasons = "; ".join(f"{count} x {why}" for why, count in found.pop("reasons").items())
        error = f"{found['failed']} of {found['requests']} requests failed: {reasons}" if reasons else ""
        self._add(repetition, subject, cell, found, error)
        return None if error else float(found["throughput"])

    def _add(
        self, repetition: int, subject: str, cell: str, values: Mapping[str, float], error: str = ""
    ) -> None:
        self._results.add(repetition, subject, cell, values, error)
        rate = f"{values['throughput']:.1f} images/s" if "throughput" in values else "done"
        print(f"[{repetition + 1}] {subject}, {cell}: {error or rate}", flush=True)


def check_answer(server: Server, model: Path, image: bytes) -> None:
    """Compare the probabilities that a peer answers with those of the graph in ``model``.

    Raises:
        ServerError: they differ, or there are none.
    """
    try:
        answer = httpx.post(f"http://127.0.0.1:{server.port}/predict", files={"file": image}, timeout=60)
    except httpx.HTTPError as error:
        raise ServerError(f"{type(error).__name__}: {error}") from error
    if problem := fault(answer.status_code, answer.content):
        raise ServerError(problem)
    expected = Classifier(Options(str(model), port=0, workers=1, threads=1))(image)["probabilities"]
    found = answer.json()["probabilities"]
    if (difference := max(abs(found[code] - p) for code, p in expected.items())) > _TOLERANCE:
        raise ServerError(f"differs from the graph by up to {difference:.2g}")


class ChildError(DermaserveError):
    """A measuring process ended with an error."""


def run_module(python: Path, module: str, *arguments: object) -> dict[str, Any]:
    """The JSON object that a measuring process prints.

    Raises:
        ChildError: it failed.
    """
    command = [str(python), "-m", module, *map(str, arguments)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_CHILD_TIMEOUT)
        if done.returncode:
            raise ChildError(f"{module} ended with {done.returncode}: {done.stderr.strip()[-400:]}")
        found: dict[str, Any] = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise ChildError(f"{module}: {type(error).__name__}: {error}") from error
    return found
