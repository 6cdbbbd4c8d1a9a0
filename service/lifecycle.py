"""The states of a server: it loads the model in the background, serves, reloads, drains and closes."""

import asyncio
import logging
import time
from contextlib import AbstractContextManager
from typing import NamedTuple

from models.errors import BundleError, DermaserveError
from service.admission.admission import Admission, Phase
from service.admission.auth import Authenticator
from service.errors import BundleRefused, DeviceError, NotReady, ReloadRunning, ShuttingDown, Stuck
from service.inference.classifier import Classifier, ModelIdentity
from service.inference.model_manager import ModelInUse, ModelManager
from service.observability.metrics import Metrics
from service.settings import Settings

logger = logging.getLogger(__name__)


class ReloadOutcome(NamedTuple):
    """The models before and after a reload."""

    old: ModelIdentity
    new: ModelIdentity


class Runtime:
    """The parts of a server that its routes use, and its state.

    Attributes:
        settings, metrics, authenticator, admission: one of each for the server.
        failure: the exception that kept the first model from loading, else None.
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
        self._grace_end: float | None = None  # on the clock of time.monotonic
        self.metrics.ready.set_function(lambda: float(self.ready))
        self.metrics.requests_in_progress.set_function(lambda: float(self.admission.requests))
        self.metrics.requests_limit.set(settings.max_queue_size)

    @property
    def ready(self) -> bool:
        """Whether load balancers should send requests."""
        classifier = self._models.classifier
        return classifier is not None and classifier.alive and self.admission.phase is Phase.READY

    @property
    def classifier(self) -> Classifier:
        """The model for new requests. A request that awaits its work calls ``use`` instead.

        Raises:
            NotReady: no model is loaded.
        """
        return self._current_model().classifier

    def use(self) -> AbstractContextManager[Classifier]:
        """Return a context manager that keeps the model for new requests open, even through a reload.

        Raises:
            NotReady: no model is loaded.
        """
        return self._current_model().use()

    def check_ready(self) -> None:
        """Raise NotReady unless load balancers should send requests."""
        self._check_serving()
        self.check_alive()

    def check_alive(self) -> None:
        """Raise Stuck if inference or decoding hangs, so that the process must be restarted."""
        classifier = self._models.classifier
        if classifier is not None and not classifier.alive and self.admission.phase is not Phase.CLOSED:
            raise Stuck

    async def start(self) -> None:
        """Start to load the model and return at once, so that the server answers ``/livez`` meanwhile."""
        self._loading = asyncio.create_task(self._load())

    async def reload(self, *, wait: bool = True) -> ReloadOutcome:
        """Serve the bundle that the configured folder holds now. No request fails; see ``ModelManager.load``.

        Args:
            wait: whether to wait for a model that is being loaded, or raise ReloadRunning.

        Raises:
            NotReady: the server is starting or shutting down.
            ReloadRunning: a model is being loaded and ``wait`` is false.
            BundleRefused: the bundle cannot be served. The old model stays.
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
                # Any error while loading has the same consequence: the old model stays.
                self.metrics.reloads.labels("refused").inc()
                _log_refusal(error)
                raise BundleRefused(f"The old model stays in service. {_public(error)}") from error
            self.metrics.reloads.labels("loaded").inc()
            return ReloadOutcome(old, self.classifier.identity)

    def drain(self) -> None:
        """Fail readiness, but still accept requests."""
        if self.admission.phase in (Phase.STARTING, Phase.READY):
            self.admission.phase = Phase.DRAINING

    def close_admission(self) -> None:
        """Reject new requests. The grace period for accepted ones starts now."""
        if self._grace_end is None:
            self._grace_end = time.monotonic() + self.settings.shutdown_grace
        if self.admission.phase is not Phase.FAILED:
            self.admission.phase = Phase.CLOSED

    async def stop(self) -> None:
        """Finish accepted requests within the rest of the grace period, and close the models."""
        self.close_admission()
        await self._models.close(self._left)

    def _left(self) -> float:
        return max(0.0, (self._grace_end or 0.0) - time.monotonic())

    def _current_model(self) -> ModelInUse:
        if self._models.current is None:
            self.admission.check_phase()
            raise NotReady("The model is not loaded.", reason="starting", retry_after=2)
        return self._models.current

    def _check_serving(self) -> None:
        """Raise NotReady while the server starts or shuts down, and after it failed."""
        self.admission.check_phase()
        if self.admission.phase is Phase.DRAINING:
            raise ShuttingDown

    def _check_starting(self) -> None:
        """Raise NotReady if the server began to shut down while it started."""
        if self.admission.phase is not Phase.STARTING:
            self._check_serving()

    async def _load(self) -> None:
        try:
            async with self._models.lock:
                await self._models.load(self._check_starting)
        except NotReady as error:
            logger.info("The model is no longer needed: %s", error)
            return
        except Exception as error:
            # Any error while loading has the same consequence: the server never becomes ready.
            self.failure = error
            self.admission.phase = Phase.FAILED
            known = isinstance(error, DermaserveError)
            logger.critical("The model cannot be served: %s", error, exc_info=None if known else error)
            return
        self.admission.phase = Phase.READY


def _log_refusal(error: Exception) -> None:
    reason = str(error) or type(error).__name__
    trace = None if isinstance(error, DermaserveError) else error
    logger.error("The bundle is refused, and the old model stays in service: %s", reason, exc_info=trace)


def _public(error: Exception) -> str:
    """The reason for a refused bundle, without the parts that only the operator may read."""
    if isinstance(error, BundleError):
        return error.public
    if isinstance(error, DeviceError):
        return "The GPU that the settings require does not work."
    if isinstance(error, MemoryError):
        return "There is not enough memory to load a second model."
    return "The bundle could not be loaded. The log has the reason."
