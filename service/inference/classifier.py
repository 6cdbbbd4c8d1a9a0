"""The way of one image: bytes -> pixels -> a place in a batch -> what the model says of it."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.preprocess import Decoded
from models.quality import Quality
from service.decoding.decoder import ImageDecoder
from service.errors import InferenceFailed, NoMemory
from service.inference.batcher import Batcher
from service.inference.decision import Decision, Uncertainty, decide, judge
from service.inference.loader import LoadedModel
from service.inference.overlay import Overlay, draw_overlay
from service.inference.warnings import EMPTY_HEATMAP, PredictionWarning, warnings_of
from service.observability.drift import Drift
from service.observability.metrics import Metrics
from service.settings import Settings
from service.system.threads import Workers

if TYPE_CHECKING:  # the predictor brings ONNX Runtime, which is loaded only with a bundle
    from service.inference.onnx_session import OnnxSession


class ModelIdentity(NamedTuple):
    """Which bundle answers; ``digest`` is the sha256 of its manifest, in hexadecimal."""

    name: str
    version: str
    digest: str

    @property
    def label(self) -> str:
        """``name/version``, for headers and logs."""
        return f"{self.name}/{self.version}"


class Row(NamedTuple):
    """What the graph says of one image; see ``service.inference.onnx_session.Outputs``.

    ``started`` and ``ended`` of its batch are on the clock of ``time.monotonic``.
    """

    probabilities: NDArray[np.float32]
    cams: NDArray[np.float32]
    disagreement: float
    ood_score: float
    started: float
    ended: float


class DecodedImage(NamedTuple):
    """An image as the model reads it, and how good a picture it is."""

    image: Decoded
    quality: Quality


class Classification(NamedTuple):
    """One image with everything said of it.

    Attributes:
        pixels: uint8 ``[height, width, channels]``, what the model read.
        cams: float32 ``[classes, h, w]``.
        started, ended: of the inference, on the clock of ``time.monotonic``.
    """

    pixels: NDArray[np.uint8]
    cams: NDArray[np.float32]
    decision: Decision
    uncertainty: Uncertainty
    warnings: tuple[PredictionWarning, ...]
    started: float
    ended: float


class Classifier:
    """Decodes, queues and decides for one loaded bundle.

    Attributes:
        images_at_once: most images in inference at one time.
        batch_turns: one for each image that all batches together may have in work.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        settings: Settings,
        *,
        decoder: ImageDecoder,
        workers: Workers,
        metrics: Metrics,
        stuck_after: float,
    ) -> None:
        """Start the threads of inference.

        Args:
            loaded: the bundle, and its batches.
            settings: the window of drift, and how many images are decoded at one time.
            decoder: decodes for all models.
            workers: threads to draw in.
            metrics: told of every image.
            stuck_after: seconds of one inference after which this is not ``alive``.
        """
        bundle, predictor = loaded.bundle, loaded.predictor
        self.manifest = manifest = bundle.manifest
        self.identity = ModelIdentity(manifest.name, manifest.version, bundle.digest)
        self.provider = predictor.provider
        self.images_at_once = loaded.inference_workers * loaded.max_batch_size
        self.batch_turns = asyncio.Semaphore(self.images_at_once + settings.decode_workers)
        self.drift = Drift(manifest.drift_reference, window=settings.drift_window)
        self._workers = workers
        self._metrics = metrics
        self._decoder = decoder
        self._batcher: Batcher[NDArray[np.uint8], Row] = Batcher(
            partial(_run, predictor),
            workers=loaded.inference_workers,
            max_batch_size=loaded.max_batch_size,
            batch_timeout=loaded.batch_timeout,
            stuck_after=stuck_after,
            metrics=metrics,
        )

    @property
    def alive(self) -> bool:
        """Whether images are still being worked on."""
        return self._batcher.alive and self._decoder.alive

    async def prepare(self, data: bytes, *, deadline: float) -> DecodedImage:
        """Decode one image file and measure its quality, in another process.

        Args:
            data: the whole file.
            deadline: on the clock of ``time.monotonic``; decoding does not begin after it.

        Raises:
            ImageError: it cannot be used, or takes more than an image may.
            NoMemory: there is none for it.
            DeadlinePassed: it could not begin in time.
        """
        spec = self.manifest.input
        with self._memory():
            image, quality = await self._decoder.decode(
                data, height=spec.height, width=spec.width, color=spec.color, deadline=deadline
            )
        return DecodedImage(image, quality)

    async def classify(self, prepared: DecodedImage, *, deadline: float) -> Classification:
        """Queue one image and decide on what the model says.

        Args:
            prepared: from ``prepare``.
            deadline: on the clock of ``time.monotonic``; the image is not run after it.

        Raises:
            NotReady, NoMemory, DeadlinePassed, InferenceFailed: it got no answer.
        """
        image, quality = prepared
        with self._memory():
            row = await asyncio.wrap_future(self._batcher.submit(image.pixels, deadline=deadline))
        decision = decide(self.manifest, row.probabilities)
        uncertainty = judge(decision.probabilities.values(), row.disagreement, row.ood_score)
        warnings = warnings_of(self.manifest, image, quality, decision, uncertainty)
        self._metrics.predictions.labels(decision.label, decision.flag).inc()
        confidence = max(decision.probabilities.values())
        self._metrics.confidence.observe(confidence)
        self.drift.add(decision.label, confidence)
        for warning in warnings:
            self._metrics.warnings.labels(warning.code).inc()
        return Classification(image.pixels, row.cams, decision, uncertainty, warnings, row.started, row.ended)

    async def overlay(self, classified: Classification, code: str) -> Overlay:
        """Draw the overlay for the class ``code``, one of the manifest's, in a thread.

        Raises:
            NoMemory: there is none for it.
        """
        heatmap = classified.cams[self.manifest.codes.index(code)]
        with self._memory():
            overlay = await self._workers.run(self._timed_overlay, classified.pixels, heatmap)
        if overlay.empty:
            self._metrics.warnings.labels(EMPTY_HEATMAP.code).inc()
        return overlay

    def close(self, timeout: float) -> None:
        """Answer everything queued, for at most ``timeout`` seconds."""
        self._batcher.close(timeout)

    @contextmanager
    def _memory(self) -> Iterator[None]:
        """Turn a lack of memory, which says nothing of the image, into NoMemory."""
        try:
            yield
        except MemoryError as error:
            self._metrics.refused("memory")
            raise NoMemory from error

    def _timed_overlay(self, pixels: NDArray[np.uint8], heatmap: NDArray[np.float32]) -> Overlay:
        with self._metrics.overlaying.time():
            return draw_overlay(pixels, heatmap)


def _run(predictor: "OnnxSession", images: Sequence[NDArray[np.uint8]]) -> list[Row]:
    """One batch through the model, as a row for each image."""
    started = time.monotonic()
    try:
        outputs = predictor.run(np.stack(images))
    except MemoryError:
        raise  # says nothing of the images: fewer at a time may do
    except Exception as error:
        # ONNX Runtime's exceptions share no public base; each means that this batch has no answer.
        raise InferenceFailed("the model could not be run") from error
    ended = time.monotonic()
    # Copies: a view would keep the whole batch's maps alive for the slowest of its clients.
    return [
        Row(probabilities.copy(), cams.copy(), float(disagreement), float(ood_score), started, ended)
        for probabilities, cams, disagreement, ood_score in zip(*outputs, strict=True)
    ]
