"""Threads for work that would block the event loop, and two ways for waiting to end early."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from service.errors import ClientDisconnected

P = ParamSpec("P")
T = TypeVar("T")


def show_name() -> None:
    """Let the system's tools (``top -H``, ``perf``) show the name of the thread that calls this.

    Python does so itself from 3.14 on.
    """
    with suppress(OSError, MemoryError):  # OSError: not Linux; no name is worth a thread
        own = Path(f"/proc/self/task/{threading.get_native_id()}/comm")
        own.write_text(threading.current_thread().name[:15], encoding="utf-8")


def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """Call ``function`` in a thread that does not keep the process from ending.

    Executors join their threads at exit, however long those still take.

    Raises:
        MemoryError: the system gives no thread more.
    """
    future: Future[T] = Future()

    def work(future: Future[T]) -> None:
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            future.set_exception(error)
            del future  # else a cycle keeps the image: error, its traceback, this frame, future, error
        else:
            future.set_result(result)

    future.set_running_or_notify_cancel()
    try:
        threading.Thread(target=work, args=(future,), name="worker", daemon=True).start()
    except RuntimeError as error:  # all that Python says of a lack of memory or of process numbers
        raise MemoryError("no thread could be started") from error
    return future


class Workers:
    """At most so many threads at one time, one for each call.

    An executor keeps the arguments of cancelled calls until a thread gets to them, so abandoned
    images would pile up in memory. Here calls wait on the event loop, where cancelling frees them.
    """

    def __init__(self, count: int) -> None:
        self._free = asyncio.Semaphore(count)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``function`` in a thread. If the caller is cancelled meanwhile, the result is dropped.

        Raises:
            MemoryError: the system gives no thread more.
        """
        loop = asyncio.get_running_loop()
        await self._free.acquire()
        try:
            future = in_thread(function, *args, **kwargs)
        except BaseException:
            self._free.release()
            raise

        def release(_: Future[T]) -> None:
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(self._free.release)

        # Free when the thread is done, not when the caller gives up waiting for it.
        future.add_done_callback(release)
        try:
            return await asyncio.wrap_future(future)
        finally:
            del future  # else a cycle keeps the image: future, error, its traceback, this frame


@asynccontextmanager
async def cancelled_by_disconnect(receive: Callable[[], Awaitable[Any]]) -> AsyncIterator[None]:
    """Cancel the block as soon as the client goes away. The body must have been read before.

    Args:
        receive: the ASGI channel of the request.

    Raises:
        ClientDisconnected: instead of the cancellation.
    """
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("cancelled_by_disconnect needs a running task")
    before = task.cancelling()
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        # The same accounting as asyncio.timeout's: a cancellation from elsewhere goes on.
        if gone and task.uncancel() <= before:
            raise ClientDisconnected("The client went away.") from None
        raise
    finally:
        watcher.cancel()
