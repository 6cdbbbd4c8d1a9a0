"""A real but tiny bundle: an ONNX graph of a few kB that behaves like an exported ensemble.

The graph averages the image over a 7 x 7 grid, projects each cell to one score per class, and takes
the softmax of the mean score: deterministic, and different for images of different colours.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.bundle import (
    MODEL_NAME,
    Bundle,
    ClassInfo,
    DataSummary,
    DecisionRule,
    InputSpec,
    Interval,
    Manifest,
    Member,
    OperatingPoint,
    save_bundle,
)
from models.labels import HAM10000_LABELS, Label
from models.preprocess import Color

GRID = 7


def write_tiny_bundle(
    folder: Path,
    *,
    color: Color = "rgb",
    height: int = 224,
    width: int = 224,
    classes: Sequence[Label] = HAM10000_LABELS,
    **changes: Any,
) -> Bundle:
    """Write ``model.onnx`` and ``manifest.json`` into ``folder``.

    Args:
        folder: created if missing.
        color, height, width: the graph's input.
        classes: the output classes, of which some must be malignant.
        **changes: fields of the manifest to override, such as ``name`` or ``operating_point``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(tiny_graph(color=color, height=height, width=width, classes=len(classes)), folder / MODEL_NAME)
    return save_bundle(folder, tiny_manifest(color, height, width, classes, **changes))


def tiny_manifest(
    color: Color, height: int, width: int, classes: Sequence[Label], **changes: Any
) -> Manifest:
    """A manifest whose figures are plainly made up."""
    fields: dict[str, Any] = {
        "name": "tiny-test-bundle",
        "version": "0.0.1",
        "created": "2026-01-01",
        "git_revision": "0" * 40,
        "training_git_revisions": ["0" * 40],
        "recipe": "none",
        "classes": tuple(ClassInfo(**label._asdict()) for label in classes),
        "input": InputSpec(height=height, width=width, color=color),
        "outputs": ("probabilities", "cams"),
        "members": (Member(name="tiny", weight=1.0, temperature=1.0, parameters=4 * len(classes)),),
        "decision_rule": DecisionRule(tau=0.0, prior={c.code: 1 / len(classes) for c in classes}),
        "operating_point": OperatingPoint(
            threshold=0.5,
            target_sensitivity=0.9,
            sensitivity=Interval(value=0.9, low=0.8, high=1.0),
            specificity=Interval(value=0.5, low=0.4, high=0.6),
        ),
        "metrics": {"balanced_accuracy": Interval(value=0.5, low=0.4, high=0.6)},
        "data": DataSummary(
            name="none", images={"test": 0}, lesions={"test": 0}, citation="none", licence="none"
        ),
        "licence": "Apache-2.0",
        "citation": "none",
        "intended_use": "Tests of the service.",
        "limits": ("Knows nothing.",),
    }
    return Manifest(**(fields | changes))


def tiny_graph(
    *, color: Color = "rgb", height: int = 224, width: int = 224, classes: int = 7, seed: int = 0
) -> onnx.ModelProto:
    """The graph alone, for tests that break one thing about it."""
    channels = 3 if color == "rgb" else 1
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 12, (classes, channels, 1, 1)).astype(np.float32)
    # Mean colour of a lesion on skin is near the middle of the range: keep the scores near zero there.
    bias = (-0.6 * weights.sum(axis=(1, 2, 3)) + rng.normal(0, 0.5, classes)).astype(np.float32)
    cell = [height // GRID, width // GRID]
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["float", "scale"], ["unit"]),
        helper.make_node("Transpose", ["unit"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["cells"], kernel_shape=cell, strides=cell),
        helper.make_node("Conv", ["cells", "weights", "bias"], ["scores"]),
        helper.make_node("GlobalAveragePool", ["scores"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("Relu", ["scores"], ["cams"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", height, width, channels])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", classes]),
            helper.make_tensor_value_info("cams", TensorProto.FLOAT, ["N", classes, GRID, GRID]),
        ],
        [
            numpy_helper.from_array(np.array(255, np.float32), "scale"),
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(bias, "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model
