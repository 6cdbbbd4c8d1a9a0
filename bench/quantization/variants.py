"""The quantized graphs that are tried, made by ONNX Runtime's own quantizer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    QuantType,
    create_calibrator,
    quant_pre_process,
    quantize_dynamic,
    quantize_static,
    save_tensors_data,
)

from bench.quantization.swish import fuse_swish

_TYPES = {"U8": QuantType.QUInt8, "S8": QuantType.QInt8}


@dataclass(frozen=True, slots=True)
class Variant:
    """How a graph is quantized.

    Attributes:
        name: of its file.
        activations, weights: ``"U8"`` or ``"S8"``.
        per_channel: a scale for each output channel of the weights, not one for all.
        reduce_range: weights of 7 bits, so that AVX2's 16-bit sums of two products cannot saturate.
        operators: kinds of operators to quantize; empty: all that can be.
        nodes: names of the nodes to quantize; empty: all of those kinds.
        whole_swish: with ``swish.fuse_swish``.
        dynamic: ranges of the activations are found at each run, not by calibration.
    """

    name: str
    activations: str = "U8"
    weights: str = "S8"
    per_channel: bool = True
    reduce_range: bool = False
    operators: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    whole_swish: bool = False
    dynamic: bool = False


NAIVE = Variant("naive", operators=("Conv", "MatMul", "Add"))
"""What guides to static quantization show for a convolutional net."""

VARIANTS = (
    NAIVE,
    Variant("all"),
    Variant("all-reduced", reduce_range=True),
    Variant("all-s8s8", activations="S8"),
    Variant("all-u8u8", weights="U8", per_channel=False),
    Variant("all-per-tensor", per_channel=False),
    # The quantizer's default leaves out convolutions, which here are nearly all of the work.
    Variant("dynamic", weights="U8", per_channel=False, operators=("Conv", "MatMul", "Gemm"), dynamic=True),
)


def chosen(nodes: Sequence[str]) -> Variant:
    """Only the convolutions of these names, all else as fast as it was."""
    return Variant("chosen", operators=("Conv",), nodes=tuple(nodes), whole_swish=True)


def prepare(model: Path, prepared: Path) -> None:
    """Write the graph as quantization wants it: constants folded, batch normalisation in the convolutions."""
    quant_pre_process(model, prepared, skip_symbolic_shape=True)


def calibrate(prepared: Path, images: NDArray[np.uint8], ranges: Path) -> None:
    """Write the least and the greatest value of every tensor, as one run finds them for all variants.

    Args:
        prepared: from ``prepare``.
        images: uint8 ``[n, height, width, 3]``.
        ranges: the JSON file to write.
    """
    with TemporaryDirectory() as folder:
        calibrator = create_calibrator(prepared, augmented_model_path=Path(folder, "augmented.onnx"))
        calibrator.collect_data(_Reader(calibrator.model.graph.input[0].name, images))
        save_tensors_data(calibrator.compute_data(), ranges)


def quantize(prepared: Path, variant: Variant, ranges: Path, quantized: Path) -> None:
    """Write ``variant`` of a prepared graph to ``quantized``; ``ranges`` is from ``calibrate``."""
    operators, weights = list(variant.operators), _TYPES[variant.weights]
    if variant.dynamic:
        quantize_dynamic(prepared, quantized, op_types_to_quantize=operators, weight_type=weights)
        return
    quantize_static(
        prepared,
        quantized,
        activation_type=_TYPES[variant.activations],
        weight_type=weights,
        per_channel=variant.per_channel,
        reduce_range=variant.reduce_range,
        op_types_to_quantize=operators,
        nodes_to_quantize=list(variant.nodes),
        calibration_cache_path=ranges,
    )
    if variant.whole_swish:
        model = onnx.load(quantized)
        fuse_swish(model)
        onnx.save(model, quantized)


class _Reader:
    """One image at a time, as the calibrator asks for them."""

    def __init__(self, name: str, images: NDArray[np.uint8]) -> None:
        self._name = name
        self._images: Iterator[NDArray[np.uint8]] = iter(images[:, None])

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        image = next(self._images, None)
        return None if image is None else {self._name: image}
