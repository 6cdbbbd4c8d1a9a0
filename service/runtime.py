"""The life of one server: load the model in the background, take work, exchange the model, drain, close."""

import asyncio
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Literal, NamedTuple

from models.errors import BundleError, DermaserveError
from service.access import Access
from service.budget import Budget
from service.classifier import Classifier, Identity
from service.errors import BundleRefused, DeviceError, NotReady, ReloadRunning
from service.gate import Gate, Phase
from service.loader import Loaded, load, verify
from service.metrics import Metrics
from service.served import Served
from service.settings import Settings
from service.workers import Workers, in_thread

_CLOSE_SECONDS = 30.0  # for the last batch of a model that nobody waits for any more

logger = logging.getLogger(__name__)


class Reloaded(NamedTuple):
    """Which model served before a reload, and which does from it on."""

    old: Identity
    new: Identity


class Runtime:
    """What the routes work with.

    Attributes:
        settings, metrics, access, gate: as given or made at construction.
        failure: why the model could not be loaded.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.access = Access(settings, self.metrics)
        self.gate = Gate(
            max_requests=settings.max_queue_size,
            max_body_bytes=settings.max_upload_memory,
            on_refusal=self.metrics.refused,
        )
        self.failure: Exception | None = None
        self._served: Served | None = None
        self._workers = Workers(settings.decode_workers)
        self._pixels = Budget(settings.max_pixels)
        self._changing = asyncio.Lock()
        self._loading: asyncio.Task[None] | None = None
        self._retiring: asyncio.Task[None] | None = None
        self._end: float | None = None
        self._show_metrics()

    @property
    def ready(self) -> bool:
        """Whether load balancers should send work."""
        alive = self._served is not None and self._served.classifier.alive
        return alive and self.gate.phase is Phase.READY

    @property
    def classifier(self) -> Classifier:
        """The model that new requests get; to wait for it, hold it by ``use``.

        Raises:
            NotReady: there is none.
        """
        return self._current().classifier

    @property
    def model(self) -> Identity | None:
        """Which model new requests get; None before there is one."""
        return self._served.classifier.identity if self._served is not None else None

    @contextmanager
    def use(self) -> Iterator[Classifier]:
        """Hold the model that new requests get now, through any reload, while the block runs.

        Raises:
            NotReady: there is none.
        """
        with self._current().use() as classifier:
            yield classifier

    def check_ready(self) -> None:
        """Raise NotReady unless load balancers should send work."""
        if self.ready:
            return
        self.gate.check_phase()
        if self.gate.phase is Phase.DRAINING:
            raise NotReady("The server is shutting down.", reason="draining", retry_after=5)
        raise NotReady("The server has stopped working on images.", reason="stuck", retry_after=60)

    async def start(self) -> None:
        """Begin to load the model; returns at once, so that liveness is answered meanwhile."""
        await self._changing.acquire()
        self._loading = asyncio.create_task(self._load_first())

    async def reload(self, *, wait: bool = True) -> Reloaded:
        """Verify, load and warm up what the bundle's folder holds now, then let it serve.

        Requests in the house end with the model they began with, which is closed after the last of
        them. A bundle that is being served already is only verified.

        Args:
            wait: for a model that is being loaded; else ReloadRunning.

        Raises:
            NotReady: the server is starting or shutting down.
            ReloadRunning: another bundle is being loaded.
            BundleRefused: this one cannot be served; the old model goes on.
        """
        if not wait:
            self._check_reloadable()
            if self._changing.locked():
                raise ReloadRunning("A bundle is being loaded already. Try again when that is done.")
        async with self._changing:
            self._check_reloadable()
            old = self.classifier.identity
            # Two models are in memory during a reload, never three.
            if self._retiring is not None:
                await self._retiring
            try:
                loaded = await asyncio.wrap_future(in_thread(self._load_anew))
            except Exception as error:
                # Whatever keeps the model from loading means the same: the old one goes on.
                self.metrics.reloads.labels("refused").inc()
                known = isinstance(error, DermaserveError)
                logger.error(
                    "The new bundle is refused: %s. %s %s goes on.",
                    error or type(error).__name__,
                    old.name,
                    old.version,
                    exc_info=None if known else error,
                )
                raise BundleRefused(
                    f"The new bundle was refused; the old model goes on. {_public(error)}"
                ) from error
            self._check_reloadable()  # it may have begun to shut down meanwhile
            if loaded is not None:
                self._serve(loaded)
            self.metrics.reloads.labels("loaded").inc()
            new = self.classifier.identity
            logger.info(
                "Reloaded%s: %s %s after %s %s.",
                "" if loaded is not None else ", unchanged",
                new.name,
                new.version,
                old.name,
                old.version,
            )
            return Reloaded(old, new)

    def drain(self) -> None:
        """Fail readiness, go on taking work."""
        if self.gate.phase in (Phase.STARTING, Phase.READY):
            self.gate.phase = Phase.DRAINING

    def close_gate(self) -> None:
        """Take no more work; what was accepted is finished, within the grace period from here on."""
        if self._end is None:
            self._end = time.monotonic() + self.settings.shutdown_grace
        if self.gate.phase is not Phase.FAILED:
            self.gate.phase = Phase.CLOSED

    async def stop(self) -> None:
        """Answer what was accepted, within what is left of the grace period.

        A thread that is still at work then ends with the process.
        """
        self.close_gate()
        if self._loading is not None:
            await asyncio.wait([self._loading], timeout=self._left())
        if self._classifier is not None:
            await asyncio.wrap_future(in_thread(self._classifier.close, self._left()))

    def _left(self) -> float:
        return max(0.0, (self._end or 0.0) - time.monotonic())

    async def _load(self, workers: Workers) -> None:
        start = time.monotonic()
        try:
            bundle, predictor, max_batch_size = await asyncio.wrap_future(in_thread(self._open))
        except Exception as error:
            # Whatever keeps the model from loading means the same: never become ready.
            self.failure = error
            self.gate.phase = Phase.FAILED
            known = isinstance(error, DermaserveError)
            logger.critical("The model cannot be served: %s", error, exc_info=None if known else error)
            return
        settings, manifest = self.settings, bundle.manifest
        timeout = settings.batch_timeout
        self._classifier = Classifier(
            bundle,
            predictor,
            workers=workers,
            metrics=self.metrics,
            max_pixels=settings.max_pixels,
            max_batch_size=max_batch_size,
            batch_timeout=timeout if timeout is not None else 0.005 if predictor.on_gpu else 0.0,
        )
        self.metrics.model_info.labels(manifest.name, manifest.version, predictor.provider).set(1)
        if self.gate.phase is Phase.STARTING:
            self.gate.phase = Phase.READY
        logger.info(
            "Ready after %.2f s: %s %s on %s, %d threads, batches of up to %d.",
            time.monotonic() - start,
            manifest.name,
            manifest.version,
            predictor.provider,
            settings.intra_op_threads,
            max_batch_size,
        )

    def _open(self) -> "tuple[Bundle, Predictor, int]":
        """Verify, load and warm up, in a thread."""
        # Imported here, not above: the process listens and answers /livez before ONNX Runtime is
        # loaded, and `python -m service openapi` does without it.
        from service.predictor import Predictor

        settings = self.settings
        bundle = load_bundle(settings.bundle)
        predictor = Predictor(bundle, device=settings.device, intra_op_threads=settings.intra_op_threads)
        # A CPU gains little from batches (70 images/s at 1, 77 at 4, 72 at 16 on two cores), a GPU much.
        max_batch_size = settings.max_batch_size or (32 if predictor.on_gpu else 4)
        predictor.warm_up(max_batch_size)
        Image.init()  # Pillow loads its codecs on first use: not on a client's time
        return bundle, predictor, max_batch_size
