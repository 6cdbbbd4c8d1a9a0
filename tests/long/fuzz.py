"""Fuzz the decoder and the multipart parser: ``make fuzz``, or ``python -m tests.long.fuzz``.

Child processes run the inputs, so that a codec that crashes takes down a child only; the parent
watches their time, and a limit on memory turns a codec's greed into an error. The input of an index
depends on seed and index alone: go on with ``--first``, look at one again with ``--only``.
Inputs that broke something are kept in a folder; the exit status is then 1.
"""

import argparse
import faulthandler
import logging
import multiprocessing
import os
import resource
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from PIL import Image

from tests.long.fuzz_targets import Found, input_of, targets
from tests.long.process_usage import usage

SECONDS = 20
"""An input that takes longer counts as a hang. The bound on a whole request is 30."""

MEMORY = 600_000_000
"""Bytes of addresses that an input may take: 17 for each pixel allowed, twice, and a reserve."""

BROKEN, HUNG, CRASHED = "BROKEN", "HUNG", "CRASHED"


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one input; ``fault`` says what it did that none may do."""

    index: int
    outcome: str
    seconds: float
    peak: int  # bytes that its process took at most so far
    fault: str = ""


@dataclass
class Total:
    """What became of all of them."""

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[Done] = field(default_factory=list)
    slowest: tuple[float, int] = (0.0, -1)
    peak: int = 0

    def add(self, done: Done) -> None:
        """Count one more."""
        self.outcomes[done.outcome] += 1
        self.slowest = max(self.slowest, (done.seconds, done.index))
        self.peak = max(self.peak, done.peak)
        if done.fault:
            self.faults.append(done)


def child(pipe: Connection, seed: int, indices: range) -> None:
    """Run the inputs ``indices`` and send a ``Done`` for each."""
    found = _prepared(seed)
    limit = usage(os.getpid()).addresses + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for index in indices:
        name, data = input_of(seed, index, found)
        fault, start = "", time.monotonic()
        try:
            outcome = found[name][0](data)
        except BaseException:  # whatever comes out of a target is a fault, MemoryError included
            outcome, fault = BROKEN, traceback.format_exc(limit=-4)
        seconds = time.monotonic() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        pipe.send(Done(index, f"{name}: {outcome}", seconds, peak, fault))


def _prepared(seed: int) -> Found:
    """The targets, with all loaded that is loaded on first use, and codecs that do not talk."""
    faulthandler.enable(os.dup(2))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    logging.disable()
    Image.init()
    found = targets(seed)
    for target, files in found.values():
        for content in files:
            target(content)
    return found


class Watched:
    """A child that is replaced when it crashes or hangs, and goes on behind the input at fault."""

    def __init__(self, seed: int, indices: range, total: Total) -> None:
        self._seed, self._left, self._total = seed, indices, total
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe(duplex=False)
        self._process = context.Process(target=child, args=(theirs, self._seed, self._left), daemon=True)
        self._process.start()
        theirs.close()
        self._since = time.monotonic() + 60  # importing takes its time

    def watch(self) -> bool:
        """Take what it has done; returns whether there is more to do."""
        ended = not self._process.is_alive()  # asked before: what it sent until then is all there is
        try:
            while self._left and self._pipe.poll():
                self._total.add(self._pipe.recv())
                self._left, self._since = self._left[1:], time.monotonic()
        except EOFError:
            ended = True
        if not self._left:
            self._process.join()
            return False
        if ended:
            self._process.join()
            self._replace(CRASHED, f"the process ended with {self._process.exitcode}")
        elif time.monotonic() - self._since > SECONDS:
            self._process.kill()
            self._process.join()
            self._replace(HUNG, f"no end after {SECONDS} s")
        return bool(self._left)

    def _replace(self, outcome: str, fault: str) -> None:
        if self._since > time.monotonic():
            raise RuntimeError(f"before its first input {fault}; see above")
        self._total.add(Done(self._left[0], outcome, 0.0, 0, fault))
        self._left = self._left[1:]
        if self._left:
            self._start()


def fuzz(seed: int, first: int, count: int, processes: int) -> Total:
    """Run the inputs ``first`` to ``first + count``, telling how far it is once a minute."""
    total, stop = Total(), first + count
    children = [Watched(seed, range(first + i, stop, processes), total) for i in range(min(processes, count))]
    told = start = time.monotonic()
    while children:
        children = [child for child in children if child.watch()]
        time.sleep(0.05)
        if time.monotonic() > told + 60:
            told, done = time.monotonic(), sum(total.outcomes.values())
            rate = done / (told - start)
            print(f"{done:,} of {count:,}, {rate:.0f}/s, {len(total.faults)} faults", flush=True)
    return total


def main() -> int:
    """Run the command line; the exit status is 1 when there was a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.long.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="index of the first input: to go on")
    parser.add_argument("--only", type=int, help="run one index in this process, without limits")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--keep", type=Path, default=Path("runs/fuzz"), help="folder for inputs at fault")
    options = parser.parse_args()
    found = targets(options.seed)
    if options.only is not None:
        name, data = input_of(options.seed, options.only, found)
        print(f"{name}: {found[name][0](data)}")
        return 0
    start = time.monotonic()
    total = fuzz(options.seed, options.first, options.inputs, options.processes)
    seconds, done = time.monotonic() - start, sum(total.outcomes.values())
    for outcome, times in sorted(total.outcomes.items()):
        print(f"{times:9,}  {outcome}")
    print(f"{done:9,}  inputs in {seconds:.0f} s, {done / seconds:.0f}/s, seed {options.seed}")
    print(f"slowest: {total.slowest[0]:.2f} s (index {total.slowest[1]})")
    print(f"a process took at most {total.peak / 1e6:.0f} MB")
    for fault in total.faults:
        options.keep.mkdir(parents=True, exist_ok=True)
        name, data = input_of(options.seed, fault.index, found)
        path = options.keep / f"{name}-{options.seed}-{fault.index}"
        path.write_bytes(data)
        print(f"\n{path}: {fault.fault}", file=sys.stderr)
    return 1 if total.faults else 0


if __name__ == "__main__":
    sys.exit(main())
