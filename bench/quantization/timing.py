"""Graphs timed in turns, and where ONNX Runtime's profiler says that their time goes."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime

from bench.spread import Spread, spread

Feed = Mapping[str, np.ndarray]
"""A graph's inputs by name."""


def open_session(model: Path | bytes, *, profile: Path | None = None) -> Any:
    """A session of one thread, as a service that runs one inference on each core has it.

    Args:
        model: the file, or its content.
        profile: how the file begins that ``end_profiling`` writes.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def time_in_turns(
    sessions: Mapping[str, Any], feeds: Mapping[str, Feed], rounds: int
) -> dict[str, list[float]]:
    """Processor seconds of a run of each session, by its name, one for each of ``rounds``.

    In each round every session is run once unmeasured first: the caches are then its own. A session's one
    thread is the caller's, so its processor time is the run's, whatever else the machine has to do.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(rounds):
        for name, session in sessions.items():
            session.run(None, feeds[name])
            start = time.thread_time()
            session.run(None, feeds[name])
            seconds[name].append(time.thread_time() - start)
    return seconds


def speeds(seconds: Mapping[str, list[float]], reference: str) -> dict[str, Spread]:
    """How many times as fast as ``reference`` each is: ratios within a round, their median and spread."""
    base = seconds[reference]
    return {name: spread([b / s for b, s in zip(base, own, strict=True)]) for name, own in seconds.items()}


def profile_in_turns(
    models: Mapping[str, Path | bytes], feeds: Mapping[str, Feed], runs: int
) -> dict[str, dict[str, float]]:
    """Seconds of one run that each kind of operator takes, the largest first, for each of ``models``.

    Of each node the quickest of so many ``runs`` counts. Kinds are those of the optimised graph: what ONNX
    Runtime fused has one name, and the conversions between plain and blocked layout, ``ReorderInput`` and
    ``ReorderOutput``, are operators.
    """
    with TemporaryDirectory() as folder:
        sessions = {
            name: open_session(model, profile=Path(folder, str(index)))
            for index, (name, model) in enumerate(models.items())
        }
        for _ in range(runs):
            for name, session in sessions.items():
                session.run(None, feeds[name])
        return {name: _by_operator(Path(session.end_profiling())) for name, session in sessions.items()}


def _by_operator(profile: Path) -> dict[str, float]:
    durations: dict[tuple[str, str], list[int]] = {}
    for event in json.loads(profile.read_text(encoding="utf-8")):
        if event["name"].endswith("_kernel_time"):
            node = (event["args"]["op_name"], event["args"]["node_index"])
            durations.setdefault(node, []).append(event["dur"])
    seconds: dict[str, float] = {}
    for (operator, _), microseconds in durations.items():
        seconds[operator] = seconds.get(operator, 0) + min(microseconds) / 1e6
    return dict(sorted(seconds.items(), key=lambda pair: -pair[1]))
