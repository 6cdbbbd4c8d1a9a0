"""The way of one image: bytes -> pixels -> a place in a batch -> what the model says of it."""

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.bundle import Manifest
from models.preprocess import Decoded, decode
from service.batcher import Batcher
from service.budget import Budget
from service.decision import Decision, decide
from service.errors import InferenceFailed, Overloaded
from service.gradcam import Overlay, draw_overlay
from service.metrics import Metrics
from service.workers import Workers

if TYPE_CHECKING:  # the predictor brings ONNX Runtime, which is loaded only with a bundle
    from service.predictor import Predictor

Row = tuple[NDArray[np.float32], NDArray[np.float32]]
"""One image's probabilities ``[classes]`` and cams ``[classes, h, w]``."""


class Caution(NamedTuple):
    """What a reader should know of an answer: a stable code and words for people."""

    code: str
    detail: str


class Classified(NamedTuple):
    """One image with everything said of it.

    Attributes:
        pixels: uint8 ``[height, width, channels]``, what the model read.
        cams: float32 ``[classes, h, w]``.
    """

    pixels: NDArray[np.uint8]
    cams: NDArray[np.float32]
    decision: Decision
    cautions: tuple[Caution, ...]


class Classifier:
    """Decodes, queues and decides for one loaded bundle."""

    def __init__(
        self,
        manifest: Manifest,
        predictor: "Predictor",
        *,
        workers: Workers,
        metrics: Metrics,
        max_pixels: int,
        max_batch_size: int,
        batch_timeout: float,
    ) -> None:
        """Start the batching thread; see ``Settings`` for the figures."""
        self.manifest = manifest
        self.provider = predictor.provider
        self.max_batch_size = max_batch_size
        self._workers = workers
        self._metrics = metrics
        spec = manifest.input
        self._decode = partial(
            decode,
            height=spec.height,
            width=spec.width,
            color=spec.color,
            max_pixels=max_pixels,
            # One largest image or many small ones: memory does not grow with the number of threads.
            admit=Budget(max_pixels).take,
        )
        self._batcher: Batcher[NDArray[np.uint8], Row] = Batcher(
            partial(_run, predictor),
            max_batch_size=max_batch_size,
            batch_timeout=batch_timeout,
            observer=metrics,
        )

    @property
    def alive(self) -> bool:
        """Whether images are still being worked on."""
        return self._batcher.alive

    async def decode(self, data: bytes) -> Decoded:
        """Decode one image file in a thread.

        Raises:
            ImageError: it cannot be used.
            Overloaded: there is no memory for it.
        """
        return await self._workers.run(self._timed_decode, data)

    async def classify(self, image: Decoded, *, deadline: float) -> Classified:
        """Queue one image and decide on what the model says.

        Args:
            image: from ``decode``.
            deadline: on the clock of ``time.monotonic``; the image is not run after it.

        Raises:
            NotReady, DeadlinePassed, InferenceFailed: it got no answer.
        """
        future = self._batcher.submit(image.pixels, deadline=deadline)
        probabilities, cams = await asyncio.wrap_future(future)
        decision = decide(self.manifest, probabilities)
        self._metrics.predictions.labels(decision.label, decision.flag).inc()
        return Classified(image.pixels, cams, decision, self._cautions(image))

    async def overlay(self, classified: Classified, code: str) -> Overlay:
        """Draw the overlay for the class ``code`` in a thread."""
        heatmap = classified.cams[self.manifest.codes.index(code)]
        return await self._workers.run(draw_overlay, classified.pixels, heatmap)

    def close(self, timeout: float) -> None:
        """Answer everything queued, for at most ``timeout`` seconds."""
        self._batcher.close(timeout)

    def _timed_decode(self, data: bytes) -> Decoded:
        start = time.monotonic()
        try:
            return self._decode(data)
        except MemoryError as error:
            self._metrics.refused("memory")
            raise Overloaded(
                "There is no memory for this image now.", reason="memory", retry_after=1
            ) from error
        finally:
            self._metrics.decoding.observe(time.monotonic() - start)

    def _cautions(self, image: Decoded) -> tuple[Caution, ...]:
        spec = self.manifest.input
        cautions = []
        if image.width < spec.width or image.height < spec.height:
            cautions.append(
                Caution(
                    "low_resolution",
                    f"The image is {image.width} x {image.height} pixels, smaller than the "
                    f"{spec.width} x {spec.height} that the model reads; it was enlarged.",
                )
            )
        if image.several_frames:
            cautions.append(
                Caution(
                    "multiple_frames",
                    "The file holds several frames or pages; only the first one was used.",
                )
            )
        return tuple(cautions)


def _run(predictor: "Predictor", images: Sequence[NDArray[np.uint8]]) -> list[Row]:
    """One batch through the model, as a row for each image."""
    try:
        outputs = predictor.run(np.stack(images))
    except Exception as error:
        # ONNX Runtime's exceptions share no public base; each means that this batch has no answer.
        raise InferenceFailed("the model could not be run") from error
    # Copies: a view would keep the whole batch's maps alive for the slowest of its clients.
    return [(p.copy(), c.copy()) for p, c in zip(outputs.probabilities, outputs.cams, strict=True)]
