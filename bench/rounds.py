"""The order of things: every repetition goes through the limit, our service, each peer and the parts.

Ratios are formed within a repetition, so a machine that slows down in the course slows all of them. The
servers take turns in who comes first, and the limit is measured before, between and after them.

Cells are named ``FORM CLIENTS``, such as ``multipart 16``: closed loop, forms ``raw``, ``multipart``,
``gradcam`` and ``gradcam raw`` (multipart and raw with ``gradcam=true``) and ``12mp`` (raw); ``half even``,
``half poisson``, ``full even``, ``full poisson``: open loop at that share of what 16 clients got in the same
repetition; ``process``: start, idling and memory; ``memory``: after many requests.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.limit import Shape
from bench.peers import Peer
from bench.recorder import EVENT_LOOP, Recorder
from bench.results import BESIDE, CPU, RATE
from bench.servers import Server, free_port, our_service
from service.cpus import usable_cpus

OURS = "dermaserve"
CLIENTS = (1, 4, 16, 64)
BATCH_CAP, BATCH_WAIT = 1, 0.0  # images and seconds, of the peers: as our service on a CPU
_AT = 16  # clients of what is measured once
_BEST_SHAPES = 3  # that are tried again in each repetition
_OPEN_LOOP = 5  # times as long as a closed loop: at half load few requests come, and p99 needs many
_OVERLAY = "/predict?gradcam=true"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured, and for how long.

    Attributes:
        model: the shipped ONNX file; ``plain``: the plain export, if there is one.
        bundle: of our service, if not the shipped one.
        python: of the environment of our service.
        images: folders by size.
        parts: some of ``limit``, ``service``, ``peers``, ``micro``, ``memory``.
        seconds: of each closed-loop cell; an open loop takes five times as long.
        requests: before memory is looked at.
        logs: folder for the output of servers.
    """

    model: Path
    plain: Path | None
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
            steps = [limit, *servers[:half], limit, *servers[half:], limit, ("micro", self._micro)]
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
            values = {"single": min(single.values()), "single, one thread": single["1"]}
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
                closed("gradcam raw", clients, path=_OVERLAY)
            closed("12mp", _AT, images=str(self._plan.images["12mp"]))
            for name, share in (("half", 0.5), ("full", 1.0)):
                for arrivals in ("even", "poisson"):
                    if capacity:
                        self._recorder.load(
                            *(repetition, OURS, f"{name} {arrivals}", server),
                            rate=share * capacity,
                            arrivals=arrivals,
                            seconds=_OPEN_LOOP * self._plan.seconds,
                            seed=repetition,
                            # The queue grows for as long as full load lasts, and is bounded.
                            may_refuse=name == "full",
                        )

        self._recorder.serve(repetition, OURS, self._ours(), cells)
        if "limit" in self._plan.parts:
            self._one_process(repetition)

    def _one_process(self, repetition: int) -> None:
        """What is left of the limit beside an event loop such as ours.

        With as many workers as our service infers in, each of which decodes its own image, one at a time.
        """
        found = self._recorder.results.of(OURS, f"multipart {_AT}", EVENT_LOOP).get(repetition)
        if not found:
            return
        shape = Shape(usable_cpus() + 1, 1, 1)
        arguments = ["--model", self._plan.model, "--images", self._plan.images["600x450"]]
        arguments += ["--seconds", self._plan.seconds, "--shapes", shape, "--beside", found]
        limit = self._recorder.child(
            repetition, "limit", BESIDE, self._plan.python, "bench.limit", *arguments
        )
        if limit is not None:
            rate = limit["rates"][0]
            values = {"throughput": rate["images_per_second"], "cpu": rate["cpu_per_image"], "beside": found}
            self._recorder.results.add(repetition, "limit", BESIDE, values)

    def _peer(self, peer: Peer, repetition: int) -> None:
        """All client counts with the shipped graph; once more at 16 with the plain export."""

        def cells(server: Server) -> None:
            for clients in self._plan.clients:
                cell = f"multipart {clients}"
                self._recorder.load(repetition, peer.name, cell, server, clients=clients, form="multipart")

        def plain(server: Server) -> None:
            cell = f"plain {_AT}"
            self._recorder.load(repetition, peer.name, cell, server, clients=_AT, form="multipart")

        self._recorder.serve(repetition, peer.name, self._server(peer, self._plan.model), cells)
        if peer.onnx and self._plan.plain is not None:
            server = self._server(peer, self._plan.plain)
            self._recorder.serve(repetition, peer.name, server, plain, process="process, plain")

    def _micro(self, repetition: int) -> None:
        images = self._plan.images
        arguments = ["--model", self._plan.model, "--small", images["600x450"], "--large", images["12mp"]]
        if self._plan.plain is not None:
            arguments += ["--plain", self._plan.plain]
        arguments += ["--seconds", self._plan.seconds / 8]
        found = self._recorder.child(
            repetition, "micro", "parts", self._plan.python, "bench.micro", *arguments
        )
        if found is not None:
            self._recorder.results.add(repetition, "micro", "parts", found)

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

    def _server(self, peer: Peer, model: Path) -> Server:
        port = free_port()
        command = peer.command(
            peer.python,
            model=model.absolute(),
            port=port,
            shape=peer.best(usable_cpus()),
            max_batch_size=BATCH_CAP,
            batch_timeout=BATCH_WAIT,
        )
        log = self._plan.logs / f"{peer.name}.log"
        return Server(command, port=port, ready_path=peer.ready_path, log=log, environment=peer.environment)
