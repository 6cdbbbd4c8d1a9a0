"""The model: a bundle's graph in an ONNX Runtime session; a batch in, arrays out.

The only file of the service that knows ONNX Runtime.
"""

import hashlib
import logging
import re
from typing import Any, Literal, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.bundle import Bundle
from models.errors import BundleError
from service.errors import DeviceError

Device = Literal["auto", "cpu", "cuda"]

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"

_OUT_OF_MEMORY = re.compile(r"BFCArena|bad.alloc|out of memory|ALLOC(ATION)?_FAILED|allocate memory", re.I)
"""In ONNX Runtime's messages: of its arena, of C++, of CUDA, of cuDNN and cuBLAS; no type tells them."""

logger = logging.getLogger(__name__)


class Outputs(NamedTuple):
    """What the graph says of a batch; the fields are named as the graph's outputs.

    Attributes:
        probabilities: float32 ``[n, classes]``.
        cams: float32 ``[n, classes, h, w]``, not negative; one class activation map per class.
        disagreement: float32 ``[n]``, 0..1; how far the members are apart.
        ood_score: float32 ``[n]``; higher is less like the training data.
    """

    probabilities: NDArray[np.float32]
    cams: NDArray[np.float32]
    disagreement: NDArray[np.float32]
    ood_score: NDArray[np.float32]


class OnnxSession:
    """A loaded and verified graph.

    Attributes:
        provider: ONNX Runtime's name of what really runs the graph.
        on_gpu: whether that is a GPU.
    """

    def __init__(self, bundle: Bundle, *, device: Device, intra_op_threads: int) -> None:
        """Load the graph and compare its inputs and outputs with the manifest.

        Raises:
            BundleError: the graph cannot be loaded, or is not what the manifest says.
            DeviceError: ``device`` is ``"cuda"`` and no GPU works.
        """
        self._bundle = bundle
        self._session = _open(bundle, device, intra_op_threads)
        self.provider: str = self._session.get_providers()[0]
        self.on_gpu = self.provider != CPU
        if device == "cuda" and not self.on_gpu:
            raise DeviceError("the device cuda was demanded, but ONNX Runtime could not start it")
        if device == "auto" and not self.on_gpu:
            logger.info("No working GPU was found: the model runs on the CPU.")
        self._verify()

    def warm_up(self, max_batch_size: int) -> None:
        """Run every batch size that will occur once: the first run of a shape is slow on a GPU."""
        spec = self._bundle.manifest.input
        for size in _buckets(max_batch_size) if self.on_gpu else [1]:
            self.run(np.zeros((size, spec.height, spec.width, spec.channels), np.uint8))

    def run(self, batch: NDArray[np.uint8]) -> Outputs:
        """Run the graph on ``batch``, uint8 ``[n, height, width, channels]``.

        On a GPU the batch is padded to a power of two, so that few shapes ever occur.

        Raises:
            MemoryError: there is none for this batch; a smaller one may do.
        """
        count = len(batch)
        if self.on_gpu:
            padding = _buckets(count)[-1] - count
            batch = np.pad(batch, [(0, padding), (0, 0), (0, 0), (0, 0)])
        name = self._bundle.manifest.input.name
        try:
            found = self._session.run(list(Outputs._fields), {name: batch})
        except Exception as error:  # ONNX Runtime's exceptions share no public base
            if _OUT_OF_MEMORY.search(str(error)):
                raise MemoryError("ONNX Runtime has no memory for this batch") from error
            raise
        return Outputs(*(output[:count] for output in found))

    def _verify(self) -> None:
        manifest = self._bundle.manifest
        spec, classes = manifest.input, len(manifest.classes)
        where = self._bundle.model_path.name
        inputs = {node.name: node for node in self._session.get_inputs()}
        if set(inputs) != {spec.name}:
            raise BundleError(f"{where}: input: expected {spec.name}, found {', '.join(sorted(inputs))}")
        outputs = {node.name: node for node in self._session.get_outputs()}
        missing = set(manifest.outputs) - set(outputs)
        if missing:
            raise BundleError(f"{where}: outputs: {', '.join(sorted(missing))} missing")
        shapes: dict[str, list[int | None]] = {
            "probabilities": [None, classes],
            "cams": [None, classes, None, None],
            "disagreement": [None],
            "ood_score": [None],
        }
        expected = [(inputs[spec.name], "tensor(uint8)", [None, spec.height, spec.width, spec.channels])]
        expected += [(outputs[name], "tensor(float)", shape) for name, shape in shapes.items()]
        for node, dtype, shape in expected:
            if node.type != dtype:
                raise BundleError(f"{where}: {node.name}: expected {dtype}, found {node.type}")
            if not _fits(node.shape, shape):
                wanted = ["any" if size is None else size for size in shape]
                raise BundleError(f"{where}: {node.name}: expected shape {wanted}, found {node.shape}")
        if isinstance(inputs[spec.name].shape[0], int):
            raise BundleError(f"{where}: {spec.name}: the batch size must be free")
        # Symbolic shapes prove little: let the graph show what it gives for two images.
        found = self.run(np.zeros((2, spec.height, spec.width, spec.channels), np.uint8))
        for name, output in found._asdict().items():
            if not _fits(list(output.shape), [2, *shapes[name][1:]]):
                raise BundleError(f"{where}: {name}: a batch of 2 gave {output.shape}")
            if not np.isfinite(output).all():
                raise BundleError(f"{where}: {name}: holds values that are no numbers")
        if not np.allclose(found.probabilities.sum(axis=1), 1.0, atol=1e-3):
            raise BundleError(f"{where}: probabilities: do not sum to 1")
        if found.disagreement.min() < -1e-3 or found.disagreement.max() > 1 + 1e-3:
            raise BundleError(f"{where}: disagreement: not between 0 and 1")


def _open(bundle: Bundle, device: Device, intra_op_threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = intra_op_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # none: it writes to standard error itself, and raises the same
    # Spinning threads burn whole cores while the server idles.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers: list[Any] = [CPU]
    if device != "cpu" and CUDA in onnxruntime.get_available_providers():
        # Finds NVIDIA's libraries where pip put them, so that no CUDA image is needed.
        onnxruntime.preload_dlls()
        providers.insert(0, (CUDA, {"cudnn_conv_algo_search": "HEURISTIC"}))
    # The very bytes that are loaded are verified: the file may have changed since the bundle was.
    graph = bundle.model_path.read_bytes()
    if hashlib.sha256(graph).hexdigest() != bundle.manifest.files[bundle.model_path.name]:
        raise BundleError(f"{bundle.model_path.name}: changed while it was being loaded")
    try:
        return onnxruntime.InferenceSession(graph, options, providers=providers)
    except MemoryError:
        raise  # says nothing about the bundle
    except Exception as error:  # ONNX Runtime's exceptions share no public base
        name = bundle.model_path.name
        raise BundleError(
            f"{name}: ONNX Runtime cannot load it ({error})", public=f"{name}: cannot be loaded as a graph"
        ) from error


def _buckets(largest: int) -> list[int]:
    """Powers of two up to the first that holds ``largest``."""
    sizes = [1]
    while sizes[-1] < largest:
        sizes.append(2 * sizes[-1])
    return sizes


def _fits(found: list[int | str | None], expected: list[int | None]) -> bool:
    """Whether a graph's shape, with names for free sizes, allows the expected one."""
    if len(found) != len(expected):
        return False
    return all(e is None or not isinstance(f, int) or f == e for f, e in zip(found, expected, strict=True))
