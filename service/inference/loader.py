"""From a folder to a model that answers: verified, loaded, warmed up. Takes seconds: call it in a thread."""

from typing import TYPE_CHECKING, NamedTuple

from models.bundle import Bundle, load_bundle
from service.settings import Settings
from service.system.cpus import usable_cpus

if TYPE_CHECKING:
    from service.inference.onnx_session import OnnxSession


class LoadedModel(NamedTuple):
    """A bundle ready to answer, and what suits the processor that it runs on; see ``Settings``."""

    bundle: Bundle
    predictor: "OnnxSession"
    inference_workers: int
    intra_op_threads: int
    max_batch_size: int
    batch_timeout: float


def verify(settings: Settings) -> Bundle:
    """Check the files of the bundle that ``settings`` name.

    Raises:
        BundleError: one is missing, or not what the manifest says.
    """
    # Of a link, what it points to now: it may be switched to another bundle meanwhile.
    return load_bundle(settings.bundle.resolve())


def load(bundle: Bundle, settings: Settings) -> LoadedModel:
    """Load and warm up a verified bundle.

    Raises:
        BundleError: its graph is not what the manifest says.
        DeviceError: a GPU was demanded and does not work.
    """
    # Imported here, not above: the process listens and answers /livez before ONNX Runtime is
    # loaded, and `python -m service openapi` does without it.
    from service.inference.onnx_session import OnnxSession

    # On a CPU, cores that each run an image of their own answer the most: on two, 54 images/s, against
    # 32 where both run one image and 42 where both run four. One more than there are cores, as a run that
    # is over waits for Python's lock, and leaves its core idle (2 % of the time). A GPU wants few and large
    # batches.
    cores = usable_cpus()
    threads = settings.intra_op_threads or max(1, cores // (settings.inference_workers or cores))
    predictor = OnnxSession(bundle, device=settings.device, intra_op_threads=threads)
    workers = settings.inference_workers or (1 if predictor.on_gpu else cores + 1)
    max_batch_size = settings.max_batch_size or (32 if predictor.on_gpu else 1)
    predictor.warm_up(max_batch_size)
    timeout = settings.batch_timeout
    if timeout is None:
        timeout = 0.005 if predictor.on_gpu else 0.0
    return LoadedModel(bundle, predictor, workers, threads, max_batch_size, timeout)
