"""The server of the operations port, in the process and event loop of the public server."""

import asyncio

import uvicorn

_GRACE_SECONDS = 1  # for a scrape in progress to finish


class OperationsServer(uvicorn.Server):
    """A uvicorn server that the public server starts and stops. It handles no signals and no lifespan."""

    def __init__(self, config: uvicorn.Config) -> None:
        """``config`` must have ``lifespan="off"``."""
        config.timeout_graceful_shutdown = _GRACE_SECONDS
        super().__init__(config)
        self._serving: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Listen, and serve until ``end``. Exit the process if the port is in use."""
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
