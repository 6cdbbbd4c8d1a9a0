"""A graph in a session in one of several variants, and a runner that times its batches."""

import time
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from bench.gpu.graph import in_half, input_shape, of_batch
from models.errors import DermaserveError

Precision = Literal["fp32", "tf32", "fp16"]
Device = Literal["cuda", "cpu"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "fp16")

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"


class VariantError(DermaserveError):
    """ONNX Runtime cannot do this variant here; the message is its own first line."""


@dataclass(frozen=True)
class Variant:
    """How a graph is run.

    Attributes:
        precision: ``fp32`` without TF32, ``tf32``, or ``fp16``, a converted graph.
        binding: inputs and outputs lie in the device's memory from the beginning.
        cuda_graph: the kernels of a run are recorded once and replayed; needs ``binding``.
        nhwc: convolutions with channels last.
        tensorrt: by TensorRT instead of the CUDA provider.
    """

    precision: Precision
    binding: bool = False
    cuda_graph: bool = False
    nhwc: bool = False
    tensorrt: bool = False

    def __str__(self) -> str:
        """Such as ``fp16, IOBinding, CUDA graph``."""
        parts = {
            "TensorRT": self.tensorrt,
            "IOBinding": self.binding,
            "CUDA graph": self.cuda_graph,
            "channels last": self.nhwc,
        }
        return ", ".join([self.precision, *(name for name, used in parts.items() if used)])


_WARM_UP = 3
"""Runs: kernels are chosen in the first, CUDA graphs are recorded in a later one."""

VARIANTS: tuple[Variant, ...] = (
    *(Variant(precision) for precision in PRECISIONS),
    *(Variant(precision, binding=True) for precision in PRECISIONS),
    *(Variant(precision, binding=True, cuda_graph=True) for precision in PRECISIONS),
    *(Variant(precision, binding=True, cuda_graph=True, nhwc=True) for precision in ("tf32", "fp16")),
    # TensorRT has no switch for TF32 here: it takes it where the card has it.
    *(Variant(precision, binding=True, tensorrt=True) for precision in ("tf32", "fp16")),
)


class Timing(NamedTuple):
    """Seconds of one batch: pixels in the host's memory to outputs there, and the inference alone."""

    total: float
    inference: float


class Runner:
    """One graph for one batch size in one variant, ready to run."""

    def __init__(self, model: onnx.ModelProto, variant: Variant, batch: int, device: Device) -> None:
        """Load it and warm it up; with ``device`` ``"cpu"`` the options of the GPU are left out.

        Raises:
            VariantError: ONNX Runtime refuses, or puts the graph elsewhere.
        """
        graph = of_batch(in_half(model) if variant.precision == "fp16" else model, batch)
        self.session = open_session(graph, variant, device)
        self._input = graph.graph.input[0].name
        self._device: Device = device
        self._binding: Any = None
        if variant.binding:
            self._bind(batch)
        try:
            for _ in range(_WARM_UP):
                self.run(np.zeros((batch, *input_shape(model)), np.uint8))
        except Exception as error:
            # ONNX Runtime's exceptions share no public base; whichever comes, this variant has no figure and
            # the others are still measured.
            raise VariantError(_first_line(error)) from error

    def run(self, pixels: NDArray[np.uint8]) -> tuple[dict[str, NDArray[np.float32]], Timing]:
        """Outputs by name of a batch, and how long it took."""
        names = [output.name for output in self.session.get_outputs()]
        start = time.perf_counter()
        if self._binding is None:
            outputs = self.session.run(names, {self._input: pixels})
            total = time.perf_counter() - start
            return dict(zip(names, outputs, strict=True)), Timing(total, total)
        self._pixels.update_inplace(pixels)
        ready = time.perf_counter()
        self.session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()
        done = time.perf_counter()
        outputs = [value.numpy() for value in self._outputs]
        timing = Timing(time.perf_counter() - start, done - ready)
        # On a CPU those are the bound memory itself, which the next run overwrites.
        return {name: np.array(value) for name, value in zip(names, outputs, strict=True)}, timing

    def _bind(self, batch: int) -> None:
        """Memory at fixed addresses, which a recorded CUDA graph needs."""
        make = onnxruntime.OrtValue.ortvalue_from_shape_and_type
        shape = [batch, *self.session.get_inputs()[0].shape[1:]]
        self._pixels = make(shape, np.uint8, self._device, 0)
        self._binding = self.session.io_binding()
        self._binding.bind_ortvalue_input(self._input, self._pixels)
        self._outputs = []
        for output in self.session.get_outputs():
            if not all(isinstance(size, int) for size in output.shape[1:]):
                raise VariantError(f"{output.name}: shape {output.shape} is not fixed, cannot be bound")
            self._outputs.append(make([batch, *output.shape[1:]], np.float32, self._device, 0))
            self._binding.bind_ortvalue_output(output.name, self._outputs[-1])


def open_session(graph: onnx.ModelProto, variant: Variant, device: Device) -> Any:
    """An ONNX Runtime session that surely runs where it should.

    Raises:
        VariantError: it does not.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    providers = _providers(variant) if device == "cuda" else [CPU]
    expected = CPU if device == "cpu" else TENSORRT if variant.tensorrt else CUDA
    if expected not in onnxruntime.get_available_providers():
        raise VariantError(f"{expected} is not in this build of ONNX Runtime")
    try:
        session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=providers)
    except Exception as error:
        # As in ``Runner``: no public base, and the reason is told in place of a figure.
        raise VariantError(_first_line(error)) from error
    if session.get_providers()[0] != expected:
        raise VariantError(f"{expected} could not be started; {session.get_providers()[0]} was in its place")
    return session


def _providers(variant: Variant) -> list[Any]:
    cuda = {
        "use_tf32": str(int(variant.precision == "tf32")),
        "cudnn_conv_algo_search": "HEURISTIC",  # as the service has it
        "enable_cuda_graph": str(int(variant.cuda_graph)),
        "prefer_nhwc": str(int(variant.nhwc)),
    }
    if not variant.tensorrt:
        return [(CUDA, cuda), CPU]
    return [(TENSORRT, {"trt_fp16_enable": str(variant.precision == "fp16")}), (CUDA, cuda), CPU]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
