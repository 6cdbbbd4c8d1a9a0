"""Scores many files with the service's classifier, in order, with a bounded number of files in memory."""

import asyncio
import hashlib
import logging
import os
import re
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from models.bundle import Metadata
from models.errors import DermaserveError
from service.api.schemas import ImageWarning, prediction_of
from service.bulk.files import Input, path_text, read_file
from service.bulk.rows import Failure, Scored
from service.decoding.decoder import ImageDecoder
from service.errors import INTERNAL, OutputError, StoreError, kind_of
from service.inference.classifier import Classifier
from service.inference.loader import LoadedModel
from service.inference.warnings import EMPTY_HEATMAP
from service.observability.metrics import Metrics
from service.settings import Settings
from service.system.threads import Workers

_NO_LIMIT = float("inf")

logger = logging.getLogger(__name__)


Read = Callable[[str, int], bytes]
"""Reads a file, given its path and the limit of bytes, as ``read_file`` does."""


async def score(
    loaded: LoadedModel,
    settings: Settings,
    inputs: Iterable[Input],
    write: Callable[[Scored], None],
    *,
    overlays: Path | None = None,
) -> None:
    """Score ``inputs`` with a ``Scorer`` of their own. See ``Scorer.score``."""
    scorer = Scorer(loaded, settings, overlays=overlays)
    try:
        await scorer.score(inputs, write)
    finally:
        await scorer.close()


class Scorer:
    """Scores files with one loaded model. All calls must be on the same event loop."""

    def __init__(
        self,
        loaded: LoadedModel,
        settings: Settings,
        *,
        overlays: Path | None = None,
        read: Read | None = None,
        readers: int | None = None,
    ) -> None:
        """Start the inference threads.

        Args:
            loaded: the model.
            settings: their limits apply as for requests.
            overlays: folder for an overlay of each image, or None. Each explains the default class.
            read: reads a file. Default: ``read_file``.
            readers: number of files in memory that are being read or decoded. Default: one for each decoding
                process, and one more.
        """
        readers = readers or settings.decode_workers + 1
        self._workers = Workers(readers)
        metrics = Metrics()
        self._decoder = ImageDecoder(
            processes=settings.decode_workers,
            max_pixels=settings.max_pixels,
            timeout=settings.decode_timeout,
            metrics=metrics,
            stuck_after=_NO_LIMIT,
        )
        self._classifier = Classifier(
            loaded,
            settings,
            decoder=self._decoder,
            workers=self._workers,
            metrics=metrics,
            stuck_after=_NO_LIMIT,
        )
        self._read = read or read_file
        self._reading = asyncio.Semaphore(readers)
        # Enough for the running batches, the next batches and the files being read and decoded.
        in_inference = 2 * loaded.inference_workers * loaded.max_batch_size
        self._at_once = in_inference + settings.decode_workers - 1 + readers
        self._max_bytes = settings.max_body_bytes
        self._overlays = overlays

    async def score(self, inputs: Iterable[Input], write: Callable[[Scored], None]) -> None:
        """Score ``inputs`` and ``write`` their outcomes in the same order.

        Args:
            inputs: the files.
            write: called once for each file. An exception of ``write`` ends the run.

        Raises:
            OutputError: an overlay cannot be written.
            StoreError: a file system cannot be used.
        """

        def finish(scored: Scored, png: bytes) -> None:
            # Not in a worker thread, so that a run that ends leaves no incomplete overlay.
            if self._overlays is not None and scored.overlay is not None:
                _write_overlay(self._overlays / scored.overlay, png)
            write(scored)

        tasks: deque[asyncio.Task[tuple[Scored, bytes]]] = deque()
        try:
            for path, metadata in inputs:
                tasks.append(asyncio.create_task(self._score(path, metadata)))
                if len(tasks) == self._at_once:
                    finish(*await tasks.popleft())
            while tasks:
                finish(*await tasks.popleft())
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Wait for the running batch: a process that exits while ONNX Runtime works may crash."""
        self._classifier.close(timeout=60)
        await self._decoder.close()

    async def _score(self, path: str, metadata: Metadata) -> tuple[Scored, bytes]:
        """Return the outcome of one file and the PNG of its overlay, empty if there is none."""
        try:
            return await self._classify(path, metadata)
        except StoreError:
            raise  # it would fail all files
        except DermaserveError as error:
            kind = kind_of(error)
            detail = "The model failed." if kind is INTERNAL else str(error)
        except Exception:
            # An unexpected error of one file must not end the run. The file name is not logged, because it
            # may name a patient.
            logger.exception("A file failed with an unexpected error.")
            kind, detail = INTERNAL, "The file could not be processed."
        return Scored(path_text(path), Failure(kind, detail)), b""

    async def _classify(self, path: str, metadata: Metadata) -> tuple[Scored, bytes]:
        classifier = self._classifier
        async with self._reading:
            data = await self._workers.run(self._read, path, self._max_bytes)
            image, quality = await classifier.decode(data, deadline=_NO_LIMIT)
            del data
        classification = await classifier.classify(image, quality, metadata, deadline=_NO_LIMIT)
        prediction = prediction_of(classifier.manifest, classification, request_id="")
        name, png = None, b""
        if self._overlays is not None:
            overlay = await classifier.overlay(classification, classification.decision.gradcam_class)
            if overlay.empty:
                prediction.warnings.append(ImageWarning(**EMPTY_HEATMAP._asdict()))
            name, png = _overlay_name(path), overlay.png
        return Scored(path_text(path), prediction, name), png


def _overlay_name(path: str) -> str:
    """Return a file name that is unique for the path, even if folders have files with the same name."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", Path(path).stem)[:80]
    return f"{stem}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}.png"


def _write_overlay(path: Path, png: bytes) -> None:
    try:
        path.write_bytes(png)
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        raise OutputError(f"{path}: cannot be written ({os.strerror(error.errno or 0)})") from error
