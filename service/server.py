"""Runs the application in uvicorn, with a shutdown that finishes every accepted request."""

import asyncio
import gc
import logging
import signal
import socket
import sys
from types import FrameType
from typing import TYPE_CHECKING, Literal

import uvicorn
from starlette.types import ASGIApp

from service.app import create_app, create_grpc_app, create_operations_app
from service.errors import BundleRefused, NotReady
from service.http.connection import connection_class
from service.lifecycle import Runtime
from service.listener import OperationsServer
from service.settings import Settings
from service.system.memory import return_large_blocks

if TYPE_CHECKING:  # gRPC is an extra
    from service.open_inference.grpc_server import GrpcServer

_KEEP_ALIVE = 75  # seconds; above the 60 of common load balancers, which must close first
_ACCEPTED_SECONDS = 0.25  # for the requests of connections that were accepted last
_BACKLOG = 2048

logger = logging.getLogger(__name__)


class DrainingServer(uvicorn.Server):
    """A uvicorn server that fails readiness and waits before it closes its listeners on SIGTERM."""

    def __init__(
        self,
        config: uvicorn.Config,
        runtime: Runtime,
        operations: OperationsServer | None = None,
        grpc: "GrpcServer | None" = None,
    ) -> None:
        super().__init__(config)
        self._runtime = runtime
        self._operations = operations
        self._grpc = grpc
        self._hangup = asyncio.Event()
        self._reloading: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on the operations port, then on the public port. Fail early if the first is in use."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._hangup.set)
        self._reloading = asyncio.create_task(self._reload_on_hangup())
        if self._operations is not None:
            await self._operations.begin()
        if self._grpc is not None:
            await self._grpc.begin()
        await super().startup(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Exit also if the model could not be loaded."""
        return await super().on_tick(counter) or self._runtime.failure is not None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Fail readiness, wait, reject new requests, then let uvicorn finish accepted ones."""
        if self._runtime.failure is None:
            # Load balancers send no requests to a server that was never ready.
            pause = self._runtime.settings.drain_pause if self._runtime.ready else 0
            self._runtime.drain()
            until = asyncio.get_running_loop().time() + pause
            # Polls, because uvicorn's signal handler sets force_exit, a plain attribute.
            while asyncio.get_running_loop().time() < until and not self.force_exit:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            # uvicorn would drop a new connection whose request it has not read yet. Close the listeners,
            # and serve such connections for a moment.
            for server in self.servers:
                server.close()
            await asyncio.sleep(_ACCEPTED_SECONDS)
        self._runtime.close_admission()
        if self._grpc is not None:
            # As one of uvicorn's tasks: it waits for them before it lets the model go, and ends them at the
            # end of the grace and at a second signal.
            ending = asyncio.create_task(self._grpc.end(self._runtime.settings.shutdown_grace))
            self.server_state.tasks.add(ending)
            ending.add_done_callback(self.server_state.tasks.discard)
        await super().shutdown(sockets)
        if self._operations is not None:  # last, so that operators can watch the shutdown
            await self._operations.end()

    async def _reload_on_hangup(self) -> None:
        """Reload the keys and the bundle on each SIGHUP. Signals during a reload cause one more reload."""
        while True:
            await self._hangup.wait()
            self._hangup.clear()
            await self._runtime.authenticator.reload()
            try:
                await self._runtime.reload()
            except BundleRefused:
                pass  # already logged with the reason
            except NotReady as error:
                logger.warning("SIGHUP does not reload the bundle: %s", error)


def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT. Return 1 if the model could not be loaded.

    Raises:
        SystemExit: with status 0, after a signal.
    """

    def exit_process(number: int, frame: FrameType | None) -> None:
        sys.exit(0)

    # At its end, uvicorn raises the signals that it caught again, which would end the process with status
    # 143. These handlers end it with status 0. As process 1 of a container, it would also ignore signals
    # without a handler.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, exit_process)
    # Ignored until the event loop handles it: keys and bundle have not been read yet.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return_large_blocks()
    runtime = Runtime(settings)
    public = create_app(settings, runtime)
    config = _config(public, settings.host, settings.port, runtime)
    operations = None
    if settings.operations_port is not None:
        app = create_operations_app(runtime)
        port = settings.operations_port
        operations = OperationsServer(_config(app, settings.operations_host, port, runtime, lifespan="off"))
    grpc = None
    if settings.grpc_port is not None:
        grpc = _grpc_server(create_grpc_app(runtime, public.state.tracing), settings)
    # The imported objects stay, so later collections can skip them.
    gc.freeze()
    try:
        DrainingServer(config, runtime, operations, grpc).run()
    except SystemExit:
        if runtime.failure is None:
            raise
    return 1 if runtime.failure is not None else 0


def _grpc_server(app: ASGIApp, settings: Settings) -> "GrpcServer":
    # Imported here: gRPC is an optional extra.
    from service.open_inference.grpc_server import GrpcServer

    return GrpcServer(app, settings)


def _config(
    app: ASGIApp, host: str, port: int, runtime: Runtime, *, lifespan: Literal["on", "off"] = "on"
) -> uvicorn.Config:
    """Build the configuration of one port. Only the public port has a lifespan, which owns the model."""
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
