"""The place of the model being served: filled at start, exchanged while it works, emptied at the end."""

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
    """A classifier in use. Runs on the event loop only: no locks."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @contextmanager
    def use(self) -> Iterator[Classifier]:
        """Hold the classifier: it is not closed before the block ends."""
        self._users += 1
        self._unused.clear()
        try:
            yield self.classifier
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    async def unused(self) -> None:
        """Wait until nobody holds it. For one that is handed out no more, that is final."""
        await self._unused.wait()


_CLOSE_SECONDS = 30.0  # for the last batch of a model that nobody waits for any more

logger = logging.getLogger(__name__)


class ModelManager:
    """Holds the model for new requests, and the one before it while requests still hold that.

    Runs on the event loop only; models are loaded and closed in threads.

    Attributes:
        lock: held while a model is loaded: one at a time.
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
        self._in_use: ModelInUse | None = None
        self._retiring: asyncio.Task[None] | None = None
        self._show_metrics()

    @property
    def classifier(self) -> Classifier | None:
        """The model for new requests; None before there is one."""
        return self._in_use.classifier if self._in_use is not None else None

    @contextmanager
    def use(self) -> Iterator[Classifier | None]:
        """Hold the model for new requests, through any exchange, while the block runs."""
        if self._in_use is None:
            yield None
            return
        with self._in_use.use() as classifier:
            yield classifier

    async def load(self, check: Callable[[], None]) -> None:
        """Verify, load and warm up what the bundle's folder holds now, then let it serve.

        Requests that hold the model before it end with that, and it is closed after the last of them.
        A bundle that is being served already is only verified.

        Args:
            check: called before the exchange; what it raises prevents that.

        Raises:
            Exception: whatever keeps the model from loading; the one before goes on.
        """
        start = time.monotonic()
        self._decoder.start()  # the codecs are loaded while the model is
        # Two models are in memory during an exchange, never three.
        if self._retiring is not None:
            await asyncio.wait([self._retiring])
        now = self.classifier
        known = now.identity.digest if now is not None and now.alive else None
        loaded = await asyncio.wrap_future(in_thread(_open, self._settings, known))
        await self._decoder.ready()
        check()
        if loaded is None:
            logger.info("The bundle is the one being served: verified, not loaded again.")
            return
        self._serve(loaded)
        logger.info(
            "Ready after %.2f s: %s %s on %s, %d workers of %d threads, batches of up to %d.",
            time.monotonic() - start,
            loaded.bundle.manifest.name,
            loaded.bundle.manifest.version,
            loaded.predictor.provider,
            loaded.inference_workers,
            loaded.intra_op_threads,
            loaded.max_batch_size,
        )

    async def close(self, left: Callable[[], float]) -> None:
        """Answer everything queued and close all models; ``left()`` is the number of seconds for it.

        A thread that is still at work then ends with the process.
        """
        # Never given back: nothing is loaded any more. A process that ends while ONNX Runtime loads
        # a graph may crash, so that is waited for.
        with suppress(TimeoutError):
            await asyncio.wait_for(self.lock.acquire(), left())
        if self._retiring is not None:
            await asyncio.wait([self._retiring], timeout=left())
        if self._in_use is not None:
            await asyncio.wrap_future(in_thread(self._in_use.classifier.close, left()))
        await self._decoder.close()

    def _serve(self, loaded: LoadedModel) -> None:
        """Give ``loaded`` to every request from here on."""
        classifier = Classifier(
            loaded,
            self._settings,
            decoder=self._decoder,
            workers=self._workers,
            metrics=self._metrics,
            stuck_after=self._settings.stuck_after,
        )
        old, self._in_use = self._in_use, ModelInUse(classifier)
        manifest, predictor, metrics = loaded.bundle.manifest, loaded.predictor, self._metrics
        metrics.model_info.clear()
        metrics.model_info.labels(manifest.name, manifest.version, predictor.provider).set(1)
        metrics.gpu_used.set(predictor.on_gpu)
        metrics.reference_share.clear()  # another bundle may have other classes
        for label, share in manifest.drift_reference.labels.items():
            metrics.reference_share.labels(label).set(share)
        if old is not None:
            self._retiring = asyncio.create_task(_retire(old))

    def _show_metrics(self) -> None:
        """Compute drift when it is read, from whichever model serves then."""

        def index(of: Literal["label", "confidence"]) -> float:
            return math.nan if self.classifier is None else self.classifier.drift.index(of)

        metrics = self._metrics
        metrics.gpu_demanded.set(self._settings.device == "cuda")
        metrics.drift_images.set_function(lambda: self.classifier.drift.images if self.classifier else 0)
        metrics.drift_psi.labels("label").set_function(lambda: index("label"))
        metrics.drift_psi.labels("confidence").set_function(lambda: index("confidence"))


def _open(settings: Settings, known: str | None) -> LoadedModel | None:
    """Load the bundle that ``settings`` name; None if ``known`` is its digest."""
    bundle = verify(settings)
    return None if bundle.digest == known else load(bundle, settings)


async def _retire(model: ModelInUse) -> None:
    await model.unused()
    await asyncio.wrap_future(in_thread(model.classifier.close, _CLOSE_SECONDS))
    del model  # the last who holds it, so that this is free before
    await asyncio.wrap_future(in_thread(return_free_pages))
