"""The process: uvicorn around the app, with a shutdown that loses no accepted request."""

import asyncio
import gc
import logging
import signal
import socket
import sys
from types import FrameType
from typing import Literal

import uvicorn
from starlette.types import ASGIApp

from service.app import create_app, create_operations_app
from service.errors import BundleRefused, NotReady
from service.http.connection import connection_class
from service.lifecycle import Runtime
from service.listener import OperationsServer
from service.settings import Settings
from service.system.memory import return_large_blocks

_KEEP_ALIVE = 75  # seconds; above the 60 of common load balancers, which must close first
_LAST_CALL = 0.25  # seconds between the last connection and the last request
_BACKLOG = 2048

logger = logging.getLogger(__name__)


class DrainingServer(uvicorn.Server):
    """uvicorn closes its listeners as soon as SIGTERM comes; this fails readiness first, and waits."""

    def __init__(
        self, config: uvicorn.Config, runtime: Runtime, operations: OperationsServer | None = None
    ) -> None:
        super().__init__(config)
        self._runtime = runtime
        self._operations = operations
        self._hangup = asyncio.Event()
        self._reloading: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on the operations port first: if it is taken, nothing has been begun yet."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._hangup.set)
        self._reloading = asyncio.create_task(self._reload_on_hangup())
        if self._operations is not None:
            await self._operations.begin()
        await super().startup(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Also exit when the model could not be loaded."""
        return await super().on_tick(counter) or self._runtime.failure is not None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, pause, refuse new work, then let uvicorn finish what was accepted."""
        if self._runtime.failure is None:
            # Before it was ready no load balancer sent anything: there is nobody to wait for.
            pause = self._runtime.settings.drain_pause if self._runtime.ready else 0
            self._runtime.drain()
            until = asyncio.get_running_loop().time() + pause
            # uvicorn's signal handler sets force_exit, a plain attribute: there is no event to wait for.
            while asyncio.get_running_loop().time() < until and not self.force_exit:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            # A client that has just connected may not have been read yet, and uvicorn would drop it:
            # close the listeners first, and answer those for a moment longer.
            for server in self.servers:
                server.close()
            await asyncio.sleep(_LAST_CALL)
        self._runtime.close_admission()
        await super().shutdown(sockets)
        if self._operations is not None:  # the last to go, so that the end can be watched
            await self._operations.end()

    async def _reload_on_hangup(self) -> None:
        """Reload keys and bundle for as long as the process lives; signals during a reload mean one more."""
        while True:
            await self._hangup.wait()
            self._hangup.clear()
            await self._runtime.authenticator.reload()
            try:
                await self._runtime.reload()
            except BundleRefused:
                pass  # logged with its reason where that was known
            except NotReady as error:
                logger.warning("SIGHUP does not reload the bundle: %s", error)


def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status."""

    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(0)

    # uvicorn raises the signals it caught again once it is done, to end the process as the signal
    # would: status 143. A drained server has done all that was asked of it: status 0. As process 1
    # of a container it would also ignore signals that have no handler.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)
    # Until the event loop handles it: what it would have read again is yet to be read.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return_large_blocks()
    runtime = Runtime(settings)
    config = _config(create_app(settings, runtime), settings.host, settings.port, runtime)
    operations = None
    if settings.operations_port is not None:
        app = create_operations_app(runtime)
        port = settings.operations_port
        operations = OperationsServer(_config(app, settings.operations_host, port, runtime, lifespan="off"))
    # All that is there stays, but for a little garbage of the imports: no collection need look at it again.
    gc.freeze()
    try:
        DrainingServer(config, runtime, operations).run()
    except SystemExit:
        if runtime.failure is None:
            raise
    return 1 if runtime.failure is not None else 0


def _config(
    app: ASGIApp, host: str, port: int, runtime: Runtime, *, lifespan: Literal["on", "off"] = "on"
) -> uvicorn.Config:
    """What both listeners have in common; the public one's app alone starts and stops the model."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        lifespan=lifespan,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, round(runtime.settings.shutdown_grace)),
        http=connection_class(runtime.settings, runtime.metrics),
        ws="none",
    )
