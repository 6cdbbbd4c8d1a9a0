"""Loads, exchanges and closes the served model."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal

from service.decoding.decoder import ImageDecoder
from service.inference.classifier import Classifier
from service.inference.loader import LoadedModel, load, verify
from service.observability.metrics import Metrics
from service.settings import Settings
from service.system.memory import return_free_pages
from service.system.threads import Workers, in_thread


class ModelInUse:
    """A classifier with a count of the requests that use it. Runs on the event loop only, without locks."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @contextmanager
    def use(self) -> Iterator[Classifier]:
        """Keep the classifier open while the block runs."""
        self._users += 1
        self._unused.clear()
        try:
            yield self.classifier
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    async def wait_unused(self) -> None:
        """Wait until no block of ``use`` runs. Call it once the model is replaced."""
        await self._unused.wait()


_CLOSE_SECONDS = 30.0  # for the last batch of a replaced model

logger = logging.getLogger(__name__)


class ModelManager:
    """Owns the served model, and a replaced one until its last request ends.

    Runs on the event loop only. Models are loaded and closed in threads.

    Attributes:
        lock: held while a model is loaded; one is loaded at a time.
        current: the model for new requests. None before the first is loaded.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self.lock = asyncio.Lock()
        self._workers = Workers(settings.decode_workers)
        self._decoder = ImageDecoder(
            processes=settings.decode_workers,
            max_pixels=settings.max_pixels,
            timeout=settings.decode_timeout,
            metrics=metrics,
            stuck_after=settings.stuck_after,
        )
        self.current: ModelInUse | None = None
        self._retiring: asyncio.Task[None] | None = None
        self._register_metrics()

    @property
    def classifier(self) -> Classifier | None:
        """The classifier for new requests. None before the first model is loaded."""
        return self.current.classifier if self.current is not None else None

    async def load(self, check: Callable[[], None]) -> None:
        """Verify, load and warm up the bundle in the configured folder, then serve it.

        Requests that use the old model finish with it. The old model is closed after the last of them.
        If the bundle is the one being served, it is verified but not loaded again.

        Args:
            check: called before the exchange. If it raises, the old model stays.

        Raises:
            Exception: any reason why the bundle cannot be served. The old model stays.
        """
        start = time.monotonic()
        self._decoder.start()  # loads the codecs in parallel with the model
        # At most two models are in memory at one time.
        if self._retiring is not None:
            await asyncio.wait([self._retiring])
        old = self.classifier
        served = old.identity.digest if old is not None and old.alive else None
        loaded = await asyncio.wrap_future(in_thread(_open, self._settings, served))
        await self._decoder.ready()
        check()
        if loaded is None:
            logger.info("The bundle is already being served. It was verified, and not loaded again.")
            return
        self._serve(loaded)
        logger.info(
            "Ready after %.2f s: %s %s on %s, %d workers of %d threads, batches of up to %d.",
            time.monotonic() - start,
            loaded.bundle.manifest.name,
            loaded.bundle.manifest.version,
            loaded.session.provider,
            loaded.inference_workers,
            loaded.intra_op_threads,
            loaded.max_batch_size,
        )

    async def close(self, left: Callable[[], float]) -> None:
        """Finish the queued images and close all models.

        Args:
            left: returns the seconds that remain. Threads that still run after that end with the process.
        """
        # Wait for a model that is being loaded: a process that exits while ONNX Runtime loads a graph may
        # crash. The lock is never released, so that no other model is loaded.
        with suppress(TimeoutError):
            await asyncio.wait_for(self.lock.acquire(), left())
        if self._retiring is not None:
            await asyncio.wait([self._retiring], timeout=left())
        if self.current is not None:
            await asyncio.wrap_future(in_thread(self.current.classifier.close, left()))
        await self._decoder.close()

    def _serve(self, loaded: LoadedModel) -> None:
        """Make ``loaded`` the model for new requests, and close the old one once it is unused."""
        classifier = Classifier(
            loaded,
            self._settings,
            decoder=self._decoder,
            workers=self._workers,
            metrics=self._metrics,
            stuck_after=self._settings.stuck_after,
        )
        old, self.current = self.current, ModelInUse(classifier)
        manifest, session, metrics = loaded.bundle.manifest, loaded.session, self._metrics
        metrics.model_info.clear()
        metrics.model_info.labels(manifest.name, manifest.version, session.provider).set(1)
        metrics.gpu_used.set(session.on_gpu)
        metrics.reference_share.clear()  # another bundle may have other classes
        for label, share in manifest.drift_reference.labels.items():
            metrics.reference_share.labels(label).set(share)
        if old is not None:
            self._retiring = asyncio.create_task(_retire(old))

    def _register_metrics(self) -> None:
        """Register the metrics of drift, which are computed from the current model when they are read."""

        def index(of: Literal["label", "confidence"]) -> float:
            return math.nan if self.classifier is None else self.classifier.drift.index(of)

        metrics = self._metrics
        metrics.gpu_demanded.set(self._settings.device == "cuda")
        metrics.drift_images.set_function(lambda: self.classifier.drift.images if self.classifier else 0)
        metrics.drift_psi.labels("label").set_function(lambda: index("label"))
        metrics.drift_psi.labels("confidence").set_function(lambda: index("confidence"))


def _open(settings: Settings, served: str | None) -> LoadedModel | None:
    """Verify the bundle in ``settings.bundle`` and load it. Return None if its digest is ``served``."""
    bundle = verify(settings)
    return None if bundle.digest == served else load(bundle, settings)


async def _retire(model: ModelInUse) -> None:
    await model.wait_unused()
    await asyncio.wrap_future(in_thread(model.classifier.close, _CLOSE_SECONDS))
    del model  # the last reference: its memory is free before the next line returns it to the system
    await asyncio.wrap_future(in_thread(return_free_pages))
