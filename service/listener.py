"""A second listener in the process and event loop of the first, for those who run the service."""

import asyncio

import uvicorn

_GOODBYE = 1  # seconds that a scrape under way has to finish


class OperationsServer(uvicorn.Server):
    """Begun and ended by the public server, which alone catches signals and runs the lifespan."""

    def __init__(self, config: uvicorn.Config) -> None:
        """``config`` must have ``lifespan="off"``."""
        config.timeout_graceful_shutdown = _GOODBYE
        super().__init__(config)
        self._serving: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Listen, and serve until ``end``; leaves the process if the port is taken."""
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        await self.startup()
        self._serving = asyncio.create_task(self.main_loop())

    async def end(self) -> None:
        """Close the listener and all connections."""
        self.should_exit = True
        if self._serving is not None:
            await self._serving
        await self.shutdown()
