"""Runs blocking functions in threads, and cancels work whose client has disconnected."""

import asyncio
import threading
from _thread import start_new_thread
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

from service.errors import ClientDisconnected

P = ParamSpec("P")
T = TypeVar("T")


def show_name() -> None:
    """Show the name of the calling thread in system tools such as ``top -H`` and ``perf``.

    Python 3.14 does this itself.
    """
    with suppress(OSError, MemoryError):  # OSError: not Linux. The thread is useful without its name.
        own = Path(f"/proc/self/task/{threading.get_native_id()}/comm")
        own.write_text(threading.current_thread().name[:15], encoding="utf-8")


class Threads:
    """Daemon threads that are kept for the next call. One is added if none is free.

    ``threading.Thread.start`` is not used: it waits for the new thread, and for ever if that has no memory
    for its first frame. Here such a thread only ends, and its call is left for the next free one.

    Attributes:
        free: number of threads that wait for a call.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = threading.Lock()
        self.free = 0

    def submit(self, call: Callable[[], None]) -> None:
        """Run ``call``, which raises nothing.

        Raises:
            MemoryError: the system cannot start another thread.
        """
        with self._lock:
            if self.free:
                self.free -= 1
            else:
                try:
                    start_new_thread(self._run, ())
                except RuntimeError as error:  # Python has no other exception for lack of memory
                    raise MemoryError("no thread could be started") from error
        self._calls.put(call)

    def _run(self) -> None:
        while True:
            call = self._calls.get()
            call()
            del call  # else it would keep an image in memory
            with self._lock:
                self.free += 1


_threads = Threads()


def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """Call ``function`` in a daemon thread, which does not delay the end of the process.

    Executors wait at exit until their threads end.

    Raises:
        MemoryError: the system cannot start another thread.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()
    _threads.submit(partial(_call, future, function, args, kwargs))
    return future


def _call(future: Future[T], function: Callable[..., T], args: Any, kwargs: Any) -> None:
    try:
        result = function(*args, **kwargs)
    except BaseException as error:
        future.set_exception(error)
        # A cycle would keep the image in memory: error, traceback, this frame, future, error.
        del future
    else:
        future.set_result(result)


class Workers:
    """Runs calls in threads, with at most ``count`` at one time.

    An executor keeps the arguments of a cancelled call until a thread takes the call, so abandoned images
    would fill the memory. Here calls wait on the event loop, and cancelling one frees its arguments.
    """

    def __init__(self, count: int) -> None:
        self._free = asyncio.Semaphore(count)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``function`` in a thread. If the caller is cancelled, the result is dropped.

        Raises:
            MemoryError: the system cannot start another thread.
        """
        loop = asyncio.get_running_loop()
        await self._free.acquire()
        try:
            future = in_thread(function, *args, **kwargs)
        except BaseException:
            self._free.release()
            raise

        def release(_: Future[T]) -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._free.release)

        # A place is free when its thread ends, even if the caller was cancelled before.
        future.add_done_callback(release)
        try:
            return await asyncio.wrap_future(future)
        finally:
            # A cycle would keep the image in memory: future, error, traceback, this frame.
            del future


@asynccontextmanager
async def cancelled_by_disconnect(receive: Callable[[], Awaitable[Any]]) -> AsyncIterator[None]:
    """Cancel the block as soon as the client disconnects. The body must be read before.

    Args:
        receive: the ``receive`` of the ASGI request.

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
        # As in asyncio.timeout, a cancellation from elsewhere is passed on.
        if gone and task.uncancel() <= before:
            raise ClientDisconnected("The client went away.") from None
        raise
    finally:
        watcher.cancel()
