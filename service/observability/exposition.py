"""The metrics as text, in bounded time of the event loop."""

import asyncio
import time
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

_SHARE = 0.1  # of the event loop's time, at most


class Text(NamedTuple):
    """An answer to a scraper."""

    content: bytes
    content_type: str


class Exposition:
    """Writes the metrics down no more often than takes a tenth of the event loop's time.

    To write them takes milliseconds. Whoever asks meanwhile waits, and all who wait get the same text. It is
    never older than the question.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._asked: dict[str, asyncio.Task[Text]] = {}  # by content type
        self._one = asyncio.Lock()
        self._free_at = 0.0

    async def text(self, accept: str) -> Text:
        """The metrics from now on, in the format that an ``Accept`` header prefers."""
        _, content_type = choose_encoder(accept)
        task = self._asked.get(content_type)
        if task is None:
            task = self._asked[content_type] = asyncio.create_task(self._write(accept, content_type))
        return await asyncio.shield(task)  # others may wait for it, too

    async def _write(self, accept: str, content_type: str) -> Text:
        async with self._one:
            await asyncio.sleep(max(0.0, self._free_at - time.monotonic()))
            del self._asked[content_type]  # who asks from now on is not answered by this
            encode, _ = choose_encoder(accept)
            begin = time.monotonic()
            content = encode(self._registry)
            end = time.monotonic()
            self._free_at = end + (end - begin) * (1 / _SHARE - 1)
            return Text(content, content_type)
