"""One model and the requests that hold it, so that it is closed only when the last has its answer."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from service.inference.classifier import Classifier


class Served:
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
