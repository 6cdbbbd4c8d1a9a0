"""Verifies, loads and warms up a bundle. This takes seconds: call it in a thread."""

from typing import TYPE_CHECKING, NamedTuple

from models.bundle import MANIFEST_NAME, Bundle, load_bundle
from models.errors import BundleError
from service.settings import PREFIX, Settings
from service.system.cpus import usable_cpus
from service.system.memory import return_free_pages

if TYPE_CHECKING:
    from service.inference.onnx_session import OnnxSession


_LONE_THREADS = 4
"""Most threads for an image that is alone, so that on many cores the next image has cores, too."""


class LoadedModel(NamedTuple):
    """A loaded bundle, with the values of the settings of the same names for the device that runs it.

    Attributes:
        bundle: verified.
        session: loaded and warmed up.
        inference_workers: number of threads that run the graph.
        intra_op_threads: number of threads that one run uses, unless it is alone.
        max_batch_size: largest number of images in one run.
        batch_timeout: seconds that the first image of a batch waits for others.
    """

    bundle: Bundle
    session: "OnnxSession"
    inference_workers: int
    intra_op_threads: int
    max_batch_size: int
    batch_timeout: float


def verify(settings: Settings) -> Bundle:
    """Check the files of the bundle in ``settings.bundle``.

    Raises:
        BundleError: a file is missing or does not match the manifest, or the manifest does not match
            ``settings.bundle_digest``.
    """
    # Resolved once: a link may be switched to another bundle meanwhile.
    bundle = load_bundle(settings.bundle.resolve())
    if settings.bundle_digest not in (None, bundle.digest):
        what = f"{PREFIX}BUNDLE_DIGEST: expected sha256 {settings.bundle_digest}, got {bundle.digest}"
        raise BundleError(f"{bundle.path / MANIFEST_NAME}: {what}", public=f"{MANIFEST_NAME}: {what}")
    return bundle


def load(bundle: Bundle, settings: Settings) -> LoadedModel:
    """Load and warm up a verified bundle.

    Raises:
        BundleError: the graph does not match the manifest.
        DeviceError: ``settings.device`` is ``"cuda"`` and no GPU works.
    """
    # Imported here: the process answers /livez before ONNX Runtime is loaded, and
    # `python -m service openapi` does not need it.
    from service.inference.onnx_session import OnnxSession

    # On a CPU, one single-threaded inference per core. Batches of two answer up to a tenth more images where
    # several wait; larger ones gain no more, and a client waits longer for one that floods the service
    # (tests.long.fairness). A GPU is fastest with few large batches.
    cores = usable_cpus()
    threads = settings.intra_op_threads or max(1, cores // (settings.inference_workers or cores))
    # An image that is alone uses more cores: docs/performance.md, "Cores".
    lone_threads = 0 if settings.intra_op_threads else min(cores, _LONE_THREADS)
    session = OnnxSession(bundle, device=settings.device, intra_op_threads=threads, lone_threads=lone_threads)
    workers = settings.inference_workers or (1 if session.on_gpu else cores)
    max_batch_size = settings.max_batch_size or (32 if session.on_gpu else 2)
    session.warm_up(max_batch_size)
    return_free_pages()
    timeout = settings.batch_timeout
    if timeout is None:
        timeout = 0.005 if session.on_gpu else 0.0
    return LoadedModel(bundle, session, workers, threads, max_batch_size, timeout)
