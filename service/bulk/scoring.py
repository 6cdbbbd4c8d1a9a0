"""Many files through the service's classifier: in order, in batches, with few of them in memory."""

import asyncio
import hashlib
import logging
import os
import re
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from models.errors import DermaserveError
from service.api.schemas import ImageWarning, prediction_of
from service.bulk.files import path_text, read_file
from service.bulk.rows import Failure, Scored
from service.decoding.decoder import ImageDecoder
from service.errors import INTERNAL, OutputError, kind_of
from service.inference.classifier import Classifier
from service.inference.loader import LoadedModel
from service.inference.warnings import EMPTY_HEATMAP
from service.observability.metrics import Metrics
from service.settings import Settings
from service.system.threads import Workers

_NEVER = float("inf")

logger = logging.getLogger(__name__)


async def score(
    loaded: LoadedModel,
    settings: Settings,
    paths: Sequence[str],
    write: Callable[[Scored], None],
    *,
    overlays: Path | None = None,
) -> None:
    """Score every file of ``paths``, and ``write`` what became of each, in this order.

    Args:
        loaded: the model.
        settings: the same limits hold as for requests.
        paths: files.
        write: called once for each; what it raises ends the run.
        overlays: folder for a picture of each image, of the class that an overlay explains by default.

    Raises:
        OutputError: an overlay cannot be written.
    """
    scorer = _Scorer(loaded, settings, overlays=overlays is not None)

    def finish(scored: Scored, png: bytes) -> None:
        # On this thread, which nothing interrupts: a run that ends leaves no part of an overlay.
        if overlays is not None and scored.overlay is not None:
            _write_overlay(overlays / scored.overlay, png)
        write(scored)

    # Enough for batches in work, the next, and as many being decoded; more would only take memory.
    at_once = 2 * loaded.inference_workers * loaded.max_batch_size + 2 * settings.decode_workers
    begun: deque[asyncio.Task[tuple[Scored, bytes]]] = deque()
    try:
        for path in paths:
            begun.append(asyncio.create_task(scorer.score(path)))
            if len(begun) == at_once:
                finish(*await begun.popleft())
        while begun:
            finish(*await begun.popleft())
    finally:
        for task in begun:
            task.cancel()
        await asyncio.gather(*begun, return_exceptions=True)
        await scorer.close()


class _Scorer:
    """One file to its outcome."""

    def __init__(self, loaded: LoadedModel, settings: Settings, *, overlays: bool) -> None:
        self._workers = Workers(settings.decode_workers)
        metrics = Metrics()
        self._decoder = ImageDecoder(
            processes=settings.decode_workers,
            max_pixels=settings.max_pixels,
            timeout=settings.decode_timeout,
            metrics=metrics,
            stuck_after=_NEVER,
        )
        self._classifier = Classifier(
            loaded,
            settings,
            decoder=self._decoder,
            workers=self._workers,
            metrics=metrics,
            stuck_after=_NEVER,
        )
        # So many files' bytes are in memory: one being decoded by each process, one read meanwhile.
        self._reading = asyncio.Semaphore(settings.decode_workers + 1)
        self._max_bytes = settings.max_body_bytes
        self._overlays = overlays

    async def score(self, path: str) -> tuple[Scored, bytes]:
        """What became of one file, and its overlay as PNG, empty without one."""
        try:
            return await self._scored(path)
        except DermaserveError as error:
            kind = kind_of(error)
            detail = "The model gave no usable answer." if kind is INTERNAL else str(error)
        except Exception:
            # Whatever one file meets, the others go on. Its name stays out of the log: it may be a patient's.
            logger.exception("A file failed in a way that was not foreseen.")
            kind, detail = INTERNAL, "The file could not be processed."
        return Scored(path_text(path), Failure(kind, detail)), b""

    async def _scored(self, path: str) -> tuple[Scored, bytes]:
        classifier = self._classifier
        async with self._reading:
            data = await self._workers.run(read_file, path, self._max_bytes)
            image = await classifier.prepare(data, deadline=_NEVER)
            del data
        found = await classifier.classify(image, deadline=_NEVER)
        prediction = prediction_of(classifier.manifest, found, request_id="")
        name, png = None, b""
        if self._overlays:
            overlay = await classifier.overlay(found, found.decision.explained)
            if overlay.empty:
                prediction.warnings.append(ImageWarning(**EMPTY_HEATMAP._asdict()))
            name, png = _overlay_name(path), overlay.png
        return Scored(path_text(path), prediction, name), png

    async def close(self) -> None:
        """Let the batch in work end: a process that leaves ONNX Runtime at work may crash."""
        self._classifier.close(timeout=60)
        await self._decoder.close()


def _overlay_name(path: str) -> str:
    """A file name that is the path's own, wherever files of the same name lie."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", Path(path).stem)[:80]
    return f"{stem}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}.png"


def _write_overlay(path: Path, png: bytes) -> None:
    try:
        path.write_bytes(png)
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        raise OutputError(f"{path}: cannot be written ({os.strerror(error.errno or 0)})") from error
