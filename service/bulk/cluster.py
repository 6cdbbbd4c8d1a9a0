"""Scores parts on a Ray cluster. Each actor loads the model once and scores with the code of ``predict``.

Paths travel to the actors, and counts travel back. An actor reads the images itself and writes the rows of a
part itself, so no image and no row is in the memory of the cluster's object store.

Ray Data's ``CheckpointConfig`` is not used. It names files at random, so that two runs at a time, or a worker
that outlives its run, write images twice. It also forgets what is finished when a run succeeds, so that a
later run with more images would score all again.
"""

import asyncio
import logging
import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from models.bundle import MANIFEST_NAME, Bundle
from models.errors import DermaserveError
from service.bulk.parquet import PartFolder
from service.bulk.parts import Part, pack, unpack
from service.bulk.rows import Columns, Failure, Scored
from service.bulk.scoring import Scorer
from service.bulk.store import place_of, read_image
from service.errors import ClusterError
from service.inference.loader import load, verify
from service.observability.logs import set_up_logs
from service.settings import Settings
from service.system.memory import return_large_blocks

# Before Ray is imported. It would send statistics of its use to its makers.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Its log files have what it would print between the lines of the progress bar.
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")

import ray
import ray.data
from ray.exceptions import RayActorError, RayError
from ray.util.annotations import RayDeprecationWarning

_READERS = 8
"""Files that each core reads at a time. An object store takes longer to answer than the model."""
_RETRIES = 3
"""How often a part is scored again because its worker ended. An image may end every worker."""


class Job(NamedTuple):
    """What each actor needs to know.

    Attributes:
        settings: of the driver.
        output: folder of the parts, a path or URI.
        folder: the folder that relative paths start from.
        metadata: whether rows say which metadata was used.
        cores: of each actor.
    """

    settings: Settings
    output: str
    folder: str
    metadata: bool
    cores: int


class PartDone(NamedTuple):
    """A part that is written: its file, its number of images, and of those that could not be scored."""

    file: str
    images: int
    failed: int


def connect(address: str | None) -> None:
    """Connect to a cluster.

    Args:
        address: of the cluster. None: that of ``RAY_ADDRESS`` or a cluster on this machine, or else a new one
            on this machine, which ends with this process.

    Raises:
        ClusterError: there is no cluster at the address.
    """
    if address not in (None, "local"):
        # Ray asks once instead of 20 times, which takes less than a minute instead of a quarter of an hour.
        os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "1")
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises ConnectionError, ValueError, RuntimeError and its own
        why = " ".join(str(error).split())[:300]
        raise ClusterError(f"--address: expected a running Ray cluster, got {address}: {why}") from error


def disconnect() -> None:
    """Leave the cluster. Its actors for this run end."""
    ray.shutdown()


def score_parts(bundle: Bundle, job: Job, parts: Iterable[Part], *, actors: int | None) -> Iterator[PartDone]:
    """Score and write ``parts``, in any order. Yield each when it is written.

    A part whose worker ends is scored again, ``_RETRIES`` times at most.

    Args:
        bundle: it is sent to the actors, and need not be on their machines.
        job: for the actors.
        parts: all of them.
        actors: largest number of actors. None: as many as the cluster has cores for.

    Raises:
        OutputError: a part cannot be written.
        StoreError: images cannot be read.
        BundleError, DeviceError: an actor cannot load the model.
        ClusterError: anything else.
    """
    rows = [{"file": part.file, "inputs": pack(part.inputs)} for part in parts]
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    files = {name: (bundle.path / name).read_bytes() for name in (MANIFEST_NAME, *bundle.manifest.files)}
    settings = job.settings.model_copy(update={"bundle_digest": bundle.digest})
    with warnings.catch_warnings():
        # Ray Data will lose the argument ``max_task_retries`` in Ray 2.64, and has none instead yet.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        done = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            _Actor,
            fn_constructor_args=(ray.put(files), job._replace(settings=settings)),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(actors or len(rows), len(rows))),
            num_cpus=job.cores,
            num_gpus=1 if settings.device == "cuda" else None,
            max_task_retries=_RETRIES,
        )
    del rows
    try:
        for row in done.iter_rows():
            yield PartDone(**row)
    except RayError as error:
        raise _cause(error) from error


class _Actor:
    """Scores parts in a process of the cluster."""

    def __init__(self, bundle_files: Any, job: Job) -> None:
        set_up_logs("text", "warning")
        return_large_blocks()
        with tempfile.TemporaryDirectory(prefix="dermaserve-") as folder:
            for name, data in ray.get(bundle_files).items():
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            settings = _settings(job, Path(folder))
            loaded = load(verify(settings), settings)
        columns = Columns(loaded.bundle.manifest, overlays=False, metadata=job.metadata)
        self._folder = PartFolder(place_of(job.output, job.folder), columns, loaded.bundle.digest)
        self._runner = asyncio.Runner()
        self._scorer = self._runner.run(_scorer(loaded, settings, job))

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        rows: list[Scored] = []
        self._runner.run(self._scorer.score(unpack(row["inputs"]), rows.append))
        self._folder.write(row["file"], rows)
        failed = sum(isinstance(scored.outcome, Failure) for scored in rows)
        return {"file": row["file"], "images": len(rows), "failed": failed}


async def _scorer(loaded: Any, settings: Settings, job: Job) -> Scorer:
    read = partial(read_image, folder=job.folder)
    return Scorer(loaded, settings, read=read, readers=_READERS * job.cores)


def _settings(job: Job, bundle: Path) -> Settings:
    """Return the settings of an actor. Its cores are those that Ray gave it, not those of the machine."""
    given = job.settings
    changes: dict[str, Any] = {"bundle": bundle}
    if given.device != "cuda":
        changes["device"] = "cpu"  # Ray gave it no GPU
        changes["inference_workers"] = given.inference_workers or job.cores
        changes["intra_op_threads"] = given.intra_op_threads or 1
    if "decode_workers" not in given.model_fields_set:
        changes["decode_workers"] = max(2, job.cores)
    return given.model_copy(update=changes)


def _cause(error: BaseException) -> DermaserveError:
    """Return the exception of this project that ended an actor, or else one that names Ray's."""
    known: BaseException | None = error
    while known is not None:
        if isinstance(known, DermaserveError):
            return known
        known = known.__cause__ or getattr(known, "cause", None)
    if isinstance(error, RayActorError):
        return ClusterError(f"a part was given up after {_RETRIES + 1} workers ended; Ray's logs say why")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ClusterError(f"the Ray cluster failed: {lines[-1] if lines else type(error).__name__}")
