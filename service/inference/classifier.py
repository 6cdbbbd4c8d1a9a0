"""Classification of one image: decode, queue for a batch, run the model, apply the decision rule."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.bundle import NO_METADATA, Metadata
from models.preprocess import Decoded
from models.quality import Quality
from service.decoding.decoder import ImageDecoder
from service.errors import InferenceFailed, NoMemory
from service.inference.batcher import Batcher
from service.inference.decision import Decision, Uncertainty, decide, measure_uncertainty
from service.inference.loader import LoadedModel
from service.inference.overlay import Overlay, draw_overlay
from service.inference.warnings import EMPTY_HEATMAP, PredictionWarning, warnings_of
from service.observability.drift import Drift
from service.observability.metrics import Metrics
from service.settings import Settings
from service.system.fair_queue import DEFAULT_RANK, FairSemaphore, Rank
from service.system.threads import Workers

if TYPE_CHECKING:  # imports ONNX Runtime, which is loaded only with a bundle
    from service.inference.onnx_session import OnnxSession


class ModelIdentity(NamedTuple):
    """Identifies a bundle. ``digest`` is the SHA-256 of its manifest, in hexadecimal."""

    name: str
    version: str
    digest: str

    @property
    def label(self) -> str:
        """``name/version``, for headers and logs."""
        return f"{self.name}/{self.version}"


class Item(NamedTuple):
    """The graph's inputs for one image.

    Attributes:
        pixels: uint8 ``[height, width, channels]``.
        metadata: float32 ``[columns]``, from ``MetadataInput.encode``; without columns if the graph has no
            such input.
    """

    pixels: NDArray[np.uint8]
    metadata: NDArray[np.float32]


class Row(NamedTuple):
    """The graph's outputs for one image, see ``service.inference.onnx_session.Outputs``.

    Attributes:
        probabilities: float32 ``[classes]``.
        cams: float32 ``[classes, h, w]``.
        disagreement: 0..1.
        ood_score: higher is less like the training data.
        started, ended: of the batch's inference, on the clock of ``time.monotonic``.
    """

    probabilities: NDArray[np.float32]
    cams: NDArray[np.float32]
    disagreement: float
    ood_score: float
    started: float
    ended: float


class Classification(NamedTuple):
    """The result for one image.

    Attributes:
        pixels: uint8 ``[height, width, channels]``, the input of the model.
        metadata_used: the metadata that the model used; None if it used the image alone.
        cams: float32 ``[classes, h, w]``, a class activation map for each class.
        decision: probabilities, label, prediction set and flag.
        uncertainty: entropy, disagreement and out-of-distribution score.
        warnings: of the file, the image and the result.
        started, ended: of the inference, on the clock of ``time.monotonic``.
    """

    pixels: NDArray[np.uint8]
    metadata_used: Metadata | None
    cams: NDArray[np.float32]
    decision: Decision
    uncertainty: Uncertainty
    warnings: tuple[PredictionWarning, ...]
    started: float
    ended: float


_CALM = 0.5
"""Seconds for which no two images were in progress together, after which the next is expected to be alone.

An image that arrives while another uses all cores is slow: without this time, random arrivals at half of the
highest rate had a p99 of 92 ms instead of 74.
"""


class _InProgress:
    """The images that are being decoded, classified or drawn. Only the event loop changes it."""

    def __init__(self) -> None:
        self._images = 0
        self._together = float("-inf")

    @contextmanager
    def image(self) -> Iterator[None]:
        """Count one image while the block runs."""
        if self._images:
            self._together = time.monotonic()
        self._images += 1
        try:
            yield
        finally:
            self._images -= 1

    @property
    def alone(self) -> bool:
        """Whether one image is in progress, and has the cores to itself as far as one can tell."""
        return self._images == 1 and time.monotonic() - self._together > _CALM


class Classifier:
    """Decodes and classifies images with one loaded bundle.

    Attributes:
        manifest: of the bundle.
        identity: name, version and digest of the bundle.
        provider: ONNX Runtime's name of the execution provider that runs the graph.
        max_images_in_inference: largest number of images in inference at one time.
        batch_images: semaphore that limits the images in progress of all batch requests together.
        drift: of the recent predictions, against the bundle's drift reference.
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
        """Start the inference threads.

        Args:
            loaded: the bundle, its session and its batch limits.
            settings: ``drift_window`` and ``decode_workers`` are used.
            decoder: shared by all models.
            workers: threads for drawing overlays.
            metrics: counts every image.
            stuck_after: seconds of one inference after which ``alive`` is false.
        """
        bundle, session = loaded.bundle, loaded.session
        self.manifest = manifest = bundle.manifest
        self.identity = ModelIdentity(manifest.name, manifest.version, bundle.digest)
        self.provider = session.provider
        self.max_images_in_inference = loaded.inference_workers * loaded.max_batch_size
        self.batch_images = FairSemaphore(self.max_images_in_inference + settings.decode_workers)
        self._in_progress = _InProgress()
        self._overlays = FairSemaphore(settings.decode_workers)
        self.drift = Drift(manifest.drift_reference, window=settings.drift_window)
        self._workers = workers
        self._metrics = metrics
        self._decoder = decoder
        self._batcher: Batcher[Item, Row] = Batcher(
            partial(_run, session, self._in_progress),
            workers=loaded.inference_workers,
            max_batch_size=loaded.max_batch_size,
            batch_timeout=loaded.batch_timeout,
            stuck_after=stuck_after,
            metrics=metrics,
        )

    @property
    def alive(self) -> bool:
        """Whether inference and decoding work: no thread has died, none hangs."""
        return self._batcher.alive and self._decoder.alive

    async def decode(
        self, data: bytes, *, rank: Rank = DEFAULT_RANK, deadline: float
    ) -> tuple[Decoded, Quality]:
        """Decode one image file to the model's input size and measure its quality, in another process.

        Args:
            data: the whole file.
            rank: of its request.
            deadline: on the clock of ``time.monotonic``. Decoding does not start after it.

        Raises:
            ImageError: the file cannot be used, or exceeds a limit.
            NoMemory: there is not enough memory.
            DeadlinePassed: decoding did not start in time.
        """
        spec = self.manifest.input
        with self._in_progress.image(), self._memory_errors():
            return await self._decoder.decode(
                data, height=spec.height, width=spec.width, color=spec.color, rank=rank, deadline=deadline
            )

    async def classify(
        self,
        image: Decoded,
        quality: Quality,
        metadata: Metadata = NO_METADATA,
        *,
        rank: Rank = DEFAULT_RANK,
        deadline: float,
    ) -> Classification:
        """Run the model on one image and apply the manifest's decision rule and limits.

        Args:
            image, quality: from ``decode``.
            metadata: of the image. Values that the model does not know are ignored.
            rank: of its request.
            deadline: on the clock of ``time.monotonic``. Inference does not start after it.

        Raises:
            NotReady: the model is closed or stuck.
            NoMemory: there is not enough memory.
            DeadlinePassed: inference did not start in time.
            InferenceFailed: the model failed, or its outputs are not valid.
        """
        spec = self.manifest.metadata
        used = Metadata() if spec is None else spec.known(metadata)
        item = Item(image.pixels, np.zeros(0, np.float32) if spec is None else spec.encode(used))
        with self._in_progress.image(), self._memory_errors():
            row = await asyncio.wrap_future(self._batcher.submit(item, rank=rank, deadline=deadline))
        decision = decide(self.manifest, row.probabilities, with_metadata=bool(used))
        uncertainty = measure_uncertainty(decision.probabilities.values(), row.disagreement, row.ood_score)
        warnings = warnings_of(self.manifest, image, quality, decision, uncertainty)
        self._metrics.predictions.labels(decision.label, decision.flag).inc()
        confidence = max(decision.probabilities.values())
        self._metrics.confidence.observe(confidence)
        self.drift.add(decision.label, confidence)
        for warning in warnings:
            self._metrics.warnings.labels(warning.code).inc()
        return Classification(
            image.pixels, used or None, row.cams, decision, uncertainty, warnings, row.started, row.ended
        )

    async def overlay(
        self, classification: Classification, code: str, *, rank: Rank = DEFAULT_RANK
    ) -> Overlay:
        """Draw the overlay for the class ``code`` of the manifest, in a thread.

        Args:
            classification: from ``classify``.
            code: of the class.
            rank: of its request.

        Raises:
            NoMemory: there is not enough memory.
        """
        heatmap = classification.cams[self.manifest.codes.index(code)]
        # The calls of ``Workers`` wait in the order of their arrival, whosever they are.
        async with self._overlays.place(rank):
            with self._in_progress.image(), self._memory_errors():
                overlay = await self._workers.run(self._timed_overlay, classification.pixels, heatmap)
        if overlay.empty:
            self._metrics.warnings.labels(EMPTY_HEATMAP.code).inc()
        return overlay

    def close(self, timeout: float) -> None:
        """Finish the queued images, within ``timeout`` seconds. Blocks."""
        self._batcher.close(timeout)

    @contextmanager
    def _memory_errors(self) -> Iterator[None]:
        """Turn MemoryError into NoMemory, and count it."""
        try:
            yield
        except MemoryError as error:
            self._metrics.refused("memory")
            raise NoMemory from error

    def _timed_overlay(self, pixels: NDArray[np.uint8], heatmap: NDArray[np.float32]) -> Overlay:
        with self._metrics.overlaying.time():
            return draw_overlay(pixels, heatmap)


def _run(session: "OnnxSession", in_progress: _InProgress, items: Sequence[Item]) -> list[Row]:
    """Run the model on one batch."""
    started = time.monotonic()
    try:
        outputs = session.run(
            np.stack([item.pixels for item in items]),
            np.stack([item.metadata for item in items]),
            in_progress.alone,
        )
    except MemoryError:
        raise  # the batcher tries a smaller batch
    except Exception as error:
        # ONNX Runtime's exceptions share no public base class.
        raise InferenceFailed("the model could not be run") from error
    ended = time.monotonic()
    # Copies: a view would keep the arrays of the whole batch in memory.
    return [
        Row(probabilities.copy(), cams.copy(), float(disagreement), float(ood_score), started, ended)
        for probabilities, cams, disagreement, ood_score in zip(*outputs, strict=True)
    ]
