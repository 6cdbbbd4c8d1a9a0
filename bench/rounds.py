"""The order of things: every repetition goes through the limit, our service, each peer and the parts.

Ratios are formed within a repetition, so a machine that slows down in the course slows all of them. The
servers take turns in who comes first, and the limit is measured before, between and after them.

Cells are named ``FORM CLIENTS``, such as ``multipart 16``: closed loop, forms ``raw``, ``multipart``,
``gradcam`` (multipart with ``gradcam=true``) and ``12mp`` (raw); ``half even`` and ``half poisson``: open
loop at half of what 16 clients got in the same repetition; ``process``: start, idling and memory;
``memory``: after many requests.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.limit import Shape
from bench.peers import Peer
from bench.recorder import Recorder
from bench.results import CPU, RATE
from bench.servers import Server, free_port, our_service
from service.system.cpus import usable_cpus

OURS = "dermaserve"
CLIENTS = (1, 4, 16, 64)
BATCH_CAP, BATCH_WAIT = 1, 0.0  # images and seconds, of the peers: as our service on a CPU
_AT = 16  # clients of what is measured once
_BEST_SHAPES = 3  # that are tried again in each repetition
_OPEN_LOOP = 5  # times as long as a closed loop: at half load few requests come, and p95 needs many
_OVERLAY = "/predict?gradcam=true"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured, and for how long.

    Attributes:
        model: the shipped ONNX file.
        bundle: of our service, if not the shipped one.
        python: of the environment of our service.
        images: folders by size.
        parts: some of ``limit``, ``service``, ``peers``, ``memory``.
        seconds: of each closed-loop cell; an open loop takes five times as long.
        requests: before memory is looked at.
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
    """Measures a ``Plan``."""

    def __init__(self, plan: Plan, recorder: Recorder, *, save: Callable[[], None]) -> None:
        """Prepare; ``save`` is called after each part, so that an interrupted run is not lost."""
        self._plan, self._recorder, self._save = plan, recorder, save
        self._shapes: list[Shape] = []

    def run(self) -> None:
        """Measure everything."""
        plan = self._plan
        for repetition in range(plan.repetitions):
            servers: list[tuple[str, Callable[[int], None]]] = [("service", self._service)]
            servers += [("peers", partial(self._peer, peer)) for peer in plan.peers]
            first = repetition % len(servers)
            servers = [*servers[first:], *servers[:first]]
            limit, half = ("limit", self._limit), len(servers) // 2
            steps = [limit, *servers[:half], limit, *servers[half:], limit]
            for part, step in steps:
                if part in plan.parts:
                    step(repetition)
                    self._save()
        if "memory" in plan.parts:
            self._memory()
            self._save()

    def _limit(self, repetition: int) -> None:
        """All shapes at first, later those that were best."""
        for size, folder in self._plan.images.items():
            shapes = self._shapes
            arguments = ["--model", self._plan.model, "--images", folder, "--seconds", self._plan.seconds / 2]
            if shapes:
                arguments += ["--shapes", *shapes]
            found = self._recorder.child(
                repetition, "limit", size, self._plan.python, "bench.limit", *arguments
            )
            if found is None:
                continue
            rates = sorted(found["rates"], key=lambda rate: rate["images_per_second"], reverse=True)
            if not self._shapes:
                self._shapes = [Shape.parse(rate["shape"]) for rate in rates[:_BEST_SHAPES]]
            single = found["single_seconds"]
            values = {"single": min(single.values())}
            for rate in rates:
                values[RATE + rate["shape"]] = rate["images_per_second"]
                values[CPU + rate["shape"]] = rate["cpu_per_image"]
            self._recorder.results.add(repetition, "limit", size, values)

    def _service(self, repetition: int) -> None:
        def cells(server: Server) -> None:
            def closed(name: str, clients: int, **changes: Any) -> float | None:
                cell = f"{name} {clients}"
                return self._recorder.load(repetition, OURS, cell, server, clients=clients, **changes)

            capacity = None
            for clients in sorted(self._plan.clients):
                rate = closed("raw", clients)
                capacity = rate if clients <= _AT else capacity
                closed("multipart", clients, form="multipart")
                closed("gradcam", clients, form="multipart", path=_OVERLAY)
            closed("12mp", _AT, images=str(self._plan.images["12mp"]))
            for arrivals in ("even", "poisson"):
                if capacity:
                    self._recorder.load(
                        *(repetition, OURS, f"half {arrivals}", server),
                        rate=capacity / 2,
                        arrivals=arrivals,
                        seconds=_OPEN_LOOP * self._plan.seconds,
                        seed=repetition,
                    )

        self._recorder.serve(repetition, OURS, self._ours(), cells)

    def _peer(self, peer: Peer, repetition: int) -> None:
        """All client counts."""

        def cells(server: Server) -> None:
            for clients in self._plan.clients:
                cell = f"multipart {clients}"
                self._recorder.load(repetition, peer.name, cell, server, clients=clients, form="multipart")

        self._recorder.serve(repetition, peer.name, self._server(peer), cells)

    def _memory(self) -> None:
        """Raw and multipart with overlay, half of the requests each, on a server of its own."""

        def cells(server: Server) -> None:
            half = {"clients": _AT, "requests": self._plan.requests // 2}
            first = self._recorder.load(0, OURS, "memory, raw", server, **half)
            second = self._recorder.load(
                0, OURS, "memory, gradcam", server, **half, form="multipart", path=_OVERLAY
            )
            found = server.vitals()
            error = "" if first and second else "requests failed"
            values = {"rss": found.rss, "peak": found.peak, "requests": 2 * half["requests"]}
            self._recorder.results.add(0, OURS, "memory", values, error)

        self._recorder.serve(0, OURS, self._ours(), cells, process="process, memory")

    def _ours(self) -> Server:
        return our_service(
            self._plan.python, log=self._plan.logs / "dermaserve.log", bundle=self._plan.bundle
        )

    def _server(self, peer: Peer) -> Server:
        port = free_port()
        command = peer.command(
            peer.python,
            model=self._plan.model.absolute(),
            port=port,
            shape=peer.best(usable_cpus()),
            max_batch_size=BATCH_CAP,
            batch_timeout=BATCH_WAIT,
        )
        log = self._plan.logs / f"{peer.name}.log"
        return Server(command, port=port, ready_path=peer.ready_path, log=log, environment=peer.environment)
