"""The life of one server: load the model in the background, take work, exchange the model, drain, close."""

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from models.errors import BundleError, DermaserveError
from service.admission.admission import Admission, Phase
from service.admission.auth import Authenticator
from service.errors import BundleRefused, DeviceError, NotReady, ReloadRunning, ShuttingDown, Stuck
from service.inference.classifier import Classifier, ModelIdentity
from service.inference.model_manager import ModelManager
from service.observability.metrics import Metrics
from service.settings import Settings

logger = logging.getLogger(__name__)


class ReloadOutcome(NamedTuple):
    """Which model served before a reload, and which does from it on."""

    old: ModelIdentity
    new: ModelIdentity


class Runtime:
    """What the routes work with.

    Attributes:
        settings, metrics, authenticator, admission: as given or made at construction.
        failure: why the model could not be loaded.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.authenticator = Authenticator(settings, self.metrics)
        self.admission = Admission(
            max_requests=settings.max_queue_size,
            max_body_bytes=settings.max_upload_memory,
            on_refusal=self.metrics.refused,
        )
        self.failure: Exception | None = None
        self._models = ModelManager(settings, self.metrics)
        self._loading: asyncio.Task[None] | None = None
        self._end: float | None = None
        self.metrics.ready.set_function(lambda: float(self.ready))
        self.metrics.inside.set_function(lambda: float(self.admission.requests))
        self.metrics.requests_limit.set(settings.max_queue_size)

    @property
    def ready(self) -> bool:
        """Whether load balancers should send work."""
        classifier = self._models.classifier
        return classifier is not None and classifier.alive and self.admission.phase is Phase.READY

    @property
    def classifier(self) -> Classifier:
        """The model for new requests; who waits for it holds it by ``use``.

        Raises:
            NotReady: there is none.
        """
        classifier = self._models.classifier
        if classifier is None:
            self.admission.check_phase()
            raise NotReady("The model is not loaded.", reason="starting", retry_after=2)
        return classifier

    @contextmanager
    def use(self) -> Iterator[Classifier]:
        """Hold the model for new requests, through any reload, while the block runs.

        Raises:
            NotReady: there is none.
        """
        with self._models.use() as classifier:
            yield classifier or self.classifier

    def check_ready(self) -> None:
        """Raise NotReady unless load balancers should send work."""
        self._check_serving()
        self.check_alive()

    def check_alive(self) -> None:
        """Raise Stuck if the model has stopped answering: only a new process helps."""
        classifier = self._models.classifier
        if classifier is not None and not classifier.alive and self.admission.phase is not Phase.CLOSED:
            raise Stuck

    async def start(self) -> None:
        """Begin to load the model; returns at once, so that liveness is answered meanwhile."""
        self._loading = asyncio.create_task(self._load())

    async def reload(self, *, wait: bool = True) -> ReloadOutcome:
        """Serve what the bundle's folder holds now, losing no request; see ``ModelManager.load``.

        Args:
            wait: for a model that is being loaded; else ReloadRunning.

        Raises:
            NotReady: the server is starting or shutting down.
            ReloadRunning: another bundle is being loaded.
            BundleRefused: this one cannot be served; the old model goes on.
        """
        if not wait:
            self._check_serving()
            if self._models.lock.locked():
                raise ReloadRunning("A bundle is being loaded already. Try again when that is done.")
        async with self._models.lock:
            self._check_serving()
            old = self.classifier.identity
            try:
                await self._models.load(self._check_serving)
            except NotReady:
                raise
            except Exception as error:
                # Whatever keeps the model from loading means the same: the old one goes on.
                self.metrics.reloads.labels("refused").inc()
                _log_refusal(error)
                raise BundleRefused(f"The old model goes on. {_public(error)}") from error
            self.metrics.reloads.labels("loaded").inc()
            return ReloadOutcome(old, self.classifier.identity)

    def drain(self) -> None:
        """Fail readiness, go on taking work."""
        if self.admission.phase in (Phase.STARTING, Phase.READY):
            self.admission.phase = Phase.DRAINING

    def close_admission(self) -> None:
        """Take no more work; what was accepted is finished, within the grace period from here on."""
        if self._end is None:
            self._end = time.monotonic() + self.settings.shutdown_grace
        if self.admission.phase is not Phase.FAILED:
            self.admission.phase = Phase.CLOSED

    async def stop(self) -> None:
        """Answer what was accepted, within what is left of the grace period."""
        self.close_admission()
        await self._models.close(self._left)

    def _left(self) -> float:
        return max(0.0, (self._end or 0.0) - time.monotonic())

    def _check_serving(self) -> None:
        """Raise NotReady unless the server is up: while starting, shutting down or failed."""
        self.admission.check_phase()
        if self.admission.phase is Phase.DRAINING:
            raise ShuttingDown

    def _check_starting(self) -> None:
        """Raise NotReady where the end came before the beginning was over."""
        if self.admission.phase is not Phase.STARTING:
            self._check_serving()

    async def _load(self) -> None:
        try:
            async with self._models.lock:
                await self._models.load(self._check_starting)
        except NotReady as error:
            logger.info("The model is not needed any more: %s", error)
            return
        except Exception as error:
            # Whatever keeps the model from loading means the same: never become ready.
            self.failure = error
            self.admission.phase = Phase.FAILED
            known = isinstance(error, DermaserveError)
            logger.critical("The model cannot be served: %s", error, exc_info=None if known else error)
            return
        self.admission.phase = Phase.READY


def _log_refusal(error: Exception) -> None:
    reason = str(error) or type(error).__name__
    trace = None if isinstance(error, DermaserveError) else error
    logger.error("The bundle is refused, the old model goes on: %s", reason, exc_info=trace)


def _public(error: Exception) -> str:
    """What a client may read of why a bundle was refused."""
    if isinstance(error, BundleError):
        return error.public
    if isinstance(error, DeviceError):
        return "The GPU that the settings demand does not work."
    if isinstance(error, MemoryError):
        return "There is no memory for a second model beside the one being served."
    return "It could not be loaded; the log says why."
