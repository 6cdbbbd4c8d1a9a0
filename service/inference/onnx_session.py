"""A bundle's graph in an ONNX Runtime session.

This is the only module of the service that imports ONNX Runtime.
"""

import hashlib
import logging
import re
from typing import Any, Literal, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.bundle import Bundle, Metadata
from models.errors import BundleError
from service.errors import DeviceError

Device = Literal["auto", "cpu", "cuda"]

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"

_OUT_OF_MEMORY = re.compile(r"BFCArena|bad.alloc|out of memory|ALLOC(ATION)?_FAILED|allocate memory", re.I)
"""Matches the out-of-memory messages of ONNX Runtime's arena, C++, CUDA, cuDNN and cuBLAS.

ONNX Runtime has no exception type for them.
"""

logger = logging.getLogger(__name__)


class Outputs(NamedTuple):
    """The graph's outputs for a batch of n images. The fields have the names of the outputs.

    Attributes:
        probabilities: float32 ``[n, classes]``.
        cams: float32 ``[n, classes, h, w]``, at least 0; a class activation map for each class.
        disagreement: float32 ``[n]``, 0..1; weighted mean distance of the members from the ensemble.
        ood_score: float32 ``[n]``; higher is less like the training data.
    """

    probabilities: NDArray[np.float32]
    cams: NDArray[np.float32]
    disagreement: NDArray[np.float32]
    ood_score: NDArray[np.float32]


class OnnxSession:
    """A loaded graph whose inputs and outputs match the manifest.

    Attributes:
        provider: ONNX Runtime's name of the execution provider that runs the graph.
        on_gpu: whether the provider uses a GPU.
    """

    def __init__(
        self, bundle: Bundle, *, device: Device, intra_op_threads: int, lone_threads: int = 0
    ) -> None:
        """Load the graph and compare its inputs and outputs with the manifest.

        Args:
            bundle: verified.
            device: ``"auto"`` uses a GPU if one works.
            intra_op_threads: number of threads that one run uses.
            lone_threads: the same for a run that is alone on a CPU, if it is larger. Such runs have a session
                of their own, because a session has one number of threads.

        Raises:
            BundleError: the graph cannot be loaded, or does not match the manifest.
            DeviceError: ``device`` is ``"cuda"`` and no GPU works.
        """
        self._bundle = bundle
        graph = _read_graph(bundle)  # once, because sessions keep it
        self._session = _open(bundle, graph, device, intra_op_threads)
        self.provider: str = self._session.get_providers()[0]
        self.on_gpu = self.provider != CPU
        if device == "cuda" and not self.on_gpu:
            raise DeviceError("the device cuda is required, but ONNX Runtime could not start it")
        if device == "auto" and not self.on_gpu:
            logger.info("No working GPU was found. The model runs on the CPU.")
        self._lone_session = self._session
        if lone_threads > intra_op_threads and not self.on_gpu:
            self._lone_session = _open(bundle, graph, "cpu", lone_threads, spin=True)
        self._verify()

    def warm_up(self, max_batch_size: int) -> None:
        """Run each batch size once, because the first run of a shape is slow on a GPU."""
        spec = self._bundle.manifest.input
        for size in _buckets(max_batch_size) if self.on_gpu else [1]:
            self.run(np.zeros((size, spec.height, spec.width, spec.channels), np.uint8))

    def run(
        self,
        batch: NDArray[np.uint8],
        metadata: NDArray[np.float32] | None = None,
        alone: bool = False,
    ) -> Outputs:
        """Run the graph on a batch of n images.

        On a GPU the batch is padded to a power of two, so that only a few shapes occur.

        Args:
            batch: uint8 ``[n, height, width, channels]``.
            metadata: float32 ``[n, columns]``, rows of ``MetadataInput.encode``. Not used if the graph has
                no such input. None means that nothing is known.
            alone: whether no other work needs the cores.

        Raises:
            MemoryError: there is not enough memory for this batch. A smaller one may succeed.
        """
        count = len(batch)
        manifest = self._bundle.manifest
        inputs: dict[str, NDArray[Any]] = {manifest.input.name: batch}
        if manifest.metadata is not None:
            columns = manifest.metadata.columns
            rows = np.zeros((count, columns), np.float32) if metadata is None else metadata
            inputs[manifest.metadata.name] = rows
        if self.on_gpu:
            padding = _buckets(count)[-1] - count
            inputs = {
                name: np.pad(values, [(0, padding), *[(0, 0)] * (values.ndim - 1)])
                for name, values in inputs.items()
            }
        session = self._lone_session if alone else self._session
        try:
            outputs = session.run(list(Outputs._fields), inputs)
        except Exception as error:  # ONNX Runtime's exceptions share no public base class
            if _OUT_OF_MEMORY.search(str(error)):
                raise MemoryError("ONNX Runtime has no memory for this batch") from error
            raise
        return Outputs(*(output[:count] for output in outputs))

    def _verify(self) -> None:
        manifest = self._bundle.manifest
        spec, classes = manifest.input, len(manifest.classes)
        where = self._bundle.model_path.name
        inputs = {node.name: node for node in self._session.get_inputs()}
        names = [spec.name, *([] if manifest.metadata is None else [manifest.metadata.name])]
        if set(inputs) != set(names):
            raise BundleError(
                f"{where}: input: expected {', '.join(names)}, found {', '.join(sorted(inputs))}"
            )
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
        if manifest.metadata is not None:
            columns = manifest.metadata.columns
            expected.append((inputs[manifest.metadata.name], "tensor(float)", [None, columns]))
        expected += [(outputs[name], "tensor(float)", shape) for name, shape in shapes.items()]
        for node, dtype, shape in expected:
            if node.type != dtype:
                raise BundleError(f"{where}: {node.name}: expected {dtype}, found {node.type}")
            if not _fits(node.shape, shape):
                wanted = ["any" if size is None else size for size in shape]
                raise BundleError(f"{where}: {node.name}: expected shape {wanted}, found {node.shape}")
        for name in names:
            if isinstance(inputs[name].shape[0], int):
                raise BundleError(f"{where}: {name}: the batch size must be free")
        # Declared shapes may be symbolic: check the shapes and values of real outputs.
        for alone in (False, True):
            self._verify_outputs(shapes, alone)

    def _verify_outputs(self, shapes: dict[str, list[int | None]], alone: bool) -> None:
        spec, where = self._bundle.manifest.input, self._bundle.model_path.name
        images = np.zeros((2, spec.height, spec.width, spec.channels), np.uint8)
        measured = self.run(images, self._sample_metadata(), alone)
        for name, output in measured._asdict().items():
            if not _fits(list(output.shape), [2, *shapes[name][1:]]):
                raise BundleError(f"{where}: {name}: a batch of 2 gave {output.shape}")
            if not np.isfinite(output).all():
                raise BundleError(f"{where}: {name}: holds values that are not finite")
        if not np.allclose(measured.probabilities.sum(axis=1), 1.0, atol=1e-3):
            raise BundleError(f"{where}: probabilities: do not sum to 1")
        if measured.disagreement.min() < -1e-3 or measured.disagreement.max() > 1 + 1e-3:
            raise BundleError(f"{where}: disagreement: not between 0 and 1")

    def _sample_metadata(self) -> NDArray[np.float32] | None:
        """Two rows of metadata: nothing is known, and everything is known."""
        spec = self._bundle.manifest.metadata
        if spec is None:
            return None
        everything = Metadata(age=spec.ages[-1], sex=spec.sexes[0], site=spec.sites[0])
        return np.stack([spec.encode(Metadata()), spec.encode(everything)])


def _open(bundle: Bundle, graph: bytes, device: Device, intra_op_threads: int, *, spin: bool = False) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = intra_op_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # fatal only: ONNX Runtime raises each error, and would also print it
    # Threads of one run are faster if they spin while they wait for each other. After the run, they would
    # burn whole cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    providers: list[Any] = [CPU]
    if device != "cpu" and CUDA in onnxruntime.get_available_providers():
        # Loads NVIDIA's libraries from site-packages, so that no CUDA image is needed.
        onnxruntime.preload_dlls()
        providers.insert(0, (CUDA, {"cudnn_conv_algo_search": "HEURISTIC"}))
    try:
        return onnxruntime.InferenceSession(graph, options, providers=providers)
    except MemoryError:
        raise  # not an error of the bundle
    except Exception as error:  # ONNX Runtime's exceptions share no public base class
        name = bundle.model_path.name
        raise BundleError(
            f"{name}: ONNX Runtime cannot load it ({error})", public=f"{name}: cannot be loaded as a graph"
        ) from error


def _read_graph(bundle: Bundle) -> bytes:
    """Read the graph and verify it again, because its file may have changed since the bundle was verified.

    ONNX Runtime gets these bytes and no path, with which it would load weights from files beside the graph
    that the manifest does not list.
    """
    graph = bundle.model_path.read_bytes()
    if hashlib.sha256(graph).hexdigest() != bundle.manifest.files[bundle.model_path.name]:
        raise BundleError(f"{bundle.model_path.name}: changed while it was being loaded")
    return graph


def _buckets(largest: int) -> list[int]:
    """Powers of two, up to the first that is at least ``largest``."""
    sizes = [1]
    while sizes[-1] < largest:
        sizes.append(2 * sizes[-1])
    return sizes


def _fits(found: list[int | str | None], expected: list[int | None]) -> bool:
    """Whether a graph's shape, whose free sizes are names or None, allows the expected shape."""
    if len(found) != len(expected):
        return False
    return all(e is None or not isinstance(f, int) or f == e for f, e in zip(found, expected, strict=True))
