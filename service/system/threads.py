"""Threads for work that would block the event loop, and two ways for waiting to end early."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar
from weakref import finalize

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
    """At most so many threads at a time, begun as they are needed, and no queue.

    An executor keeps the arguments of cancelled calls until a thread gets to them, so abandoned
    images would pile up in memory. Here calls wait on the event loop, where cancelling frees them,
    and a call gets a thread only when one is free.
    """

    def __init__(self, count: int) -> None:
        self._free = asyncio.Semaphore(count)
        self._idle: list[_Thread] = []

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``function`` in a thread. If the caller is cancelled meanwhile, the result is dropped.

        Raises:
            MemoryError: the system gives no thread more.
        """
        await self._free.acquire()
        try:
            thread = self._idle.pop() if self._idle else _Thread()
        except BaseException:
            self._free.release()
            raise
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        thread.call(partial(self._work, thread, answer, partial(function, *args, **kwargs)))
        try:
            return await answer
        finally:
            del answer  # else a cycle keeps the image: answer, error, its traceback, this frame

    def _work(self, thread: "_Thread", answer: asyncio.Future[T], call: Callable[[], T]) -> None:
        """In the thread: what ``call`` gives or raises becomes the answer, on the event loop."""
        post = answer.get_loop().call_soon_threadsafe
        with suppress(RuntimeError):  # the loop was closed meanwhile
            try:
                post(self._finish, thread, answer, answer.set_result, call())
            except BaseException as error:
                post(self._finish, thread, answer, answer.set_exception, error)
            finally:
                del answer  # as above

    def _finish(
        self, thread: "_Thread", answer: asyncio.Future[T], give: Callable[[Any], None], found: object
    ) -> None:
        # Free when the thread is done, not when the caller gives up waiting for it.
        self._idle.append(thread)
        self._free.release()
        if not answer.done():
            give(found)


class _Thread:
    """Makes one call after the other, until nobody holds this any more."""

    def __init__(self) -> None:
        calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        try:
            threading.Thread(target=_make_calls, args=(calls,), name="worker", daemon=True).start()
        except RuntimeError as error:  # all that Python says of a lack of memory or of process numbers
            raise MemoryError("no thread could be started") from error
        self.call = calls.put
        finalize(self, calls.put, None)


def _make_calls(calls: "SimpleQueue[Callable[[], None] | None]") -> None:
    show_name()
    while (call := calls.get()) is not None:
        call()
        del call  # not held while waiting for the next: an image is in it


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
