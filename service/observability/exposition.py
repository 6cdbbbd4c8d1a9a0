"""Writes the metrics as text, with a bound on the time of the event loop that this takes."""

import asyncio
import time
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

_MAX_SHARE = 0.1  # of the time of the event loop


class MetricsText(NamedTuple):
    """The body of a scrape and its content type."""

    content: bytes
    content_type: str


class Exposition:
    """Writes the metrics at most so often that this takes a tenth of the event loop's time.

    One text takes milliseconds. Requests that come too early wait, and all that wait get the same text. The
    text is never older than the request.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._pending: dict[str, asyncio.Task[MetricsText]] = {}  # by content type
        self._writing = asyncio.Lock()
        self._earliest = 0.0  # start of the next text, on the clock of time.monotonic

    async def text(self, accept: str) -> MetricsText:
        """Return the current metrics in the format that the header ``Accept`` prefers."""
        _, content_type = choose_encoder(accept)
        task = self._pending.get(content_type)
        if task is None:
            task = self._pending[content_type] = asyncio.create_task(self._write(accept, content_type))
        return await asyncio.shield(task)  # other requests may wait for the same text

    async def _write(self, accept: str, content_type: str) -> MetricsText:
        async with self._writing:
            await asyncio.sleep(max(0.0, self._earliest - time.monotonic()))
            del self._pending[content_type]  # later requests get a new text
            encode, _ = choose_encoder(accept)
            begin = time.monotonic()
            content = encode(self._registry)
            end = time.monotonic()
            self._earliest = end + (end - begin) * (1 / _MAX_SHARE - 1)
            return MetricsText(content, content_type)
