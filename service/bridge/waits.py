"""Repeats what fails because another machine is away, with growing pauses."""

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from service.errors import Away, InstanceFaulty

T = TypeVar("T")

MAX_FAULTS = 6
"""So often an unexpected fault is met before the instance is given up: after half a minute of pauses."""

logger = logging.getLogger(__name__)


class Stopping(Exception):
    """The bridge was asked to stop."""


class Waits:
    """Pauses of 1, 2, 4 … seconds between attempts."""

    def __init__(self, longest: float, stop: threading.Event) -> None:
        """Create it.

        Args:
            longest: longest pause in seconds.
            stop: ends a pause.
        """
        self._longest = longest
        self._stop = stop

    def repeat(self, action: Callable[[], T]) -> T:
        """Call ``action`` until it is not ``Away``, and return its result.

        Raises:
            InstanceFaulty: it failed ``MAX_FAULTS`` times with a fault.
            Stopping: the bridge is to stop.
        """
        attempts = faults = 0
        while True:
            self.pause(0)
            try:
                return action()
            except Away as away:
                faults += away.fault
                if faults == MAX_FAULTS:
                    raise InstanceFaulty(f"{away}, {faults} times") from None
                seconds = min(max(2.0**attempts, away.retry_after), self._longest)
                attempts = min(attempts + 1, 12)
                logger.warning("%s; trying again in %.0f s", away, seconds)
            self.pause(seconds)

    def pause(self, seconds: float) -> None:
        """Wait.

        Raises:
            Stopping: the bridge is to stop.
        """
        if self._stop.wait(seconds):
            raise Stopping
