"""A real but tiny bundle: an ONNX graph of a few kB that behaves like an exported ensemble.

Each of two members averages the image over a grid of cells, projects each cell to one score per
class, and takes the softmax of the mean score: deterministic, and different for images of different
colours. The out-of-distribution score is the distance of the mean grey level from that of skin.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.bundle import (
    CONFIDENCE_BINS,
    MODEL_NAME,
    REQUIRED_OUTPUTS,
    Bundle,
    ClassInfo,
    DataSummary,
    DecisionRule,
    Disagreement,
    DriftReference,
    InputSpec,
    Interval,
    Manifest,
    Member,
    MetadataInput,
    OperatingPoint,
    OutOfDistribution,
    PredictionSets,
    QualityLimits,
    Subgroup,
    save_bundle,
)
from models.labels import HAM10000_LABELS, Label
from models.scaling import Color

ROWS = 7
"""Of the grid; it has as many columns as the image's aspect ratio allows."""

WEIGHTS = (0.75, 0.25)
"""Of the members."""

SKIN = 0.65
"""Grey level, 0..1, at which the out-of-distribution score is 0."""


def write_tiny_bundle(
    folder: Path,
    *,
    color: Color = "rgb",
    height: int = 224,
    width: int = 224,
    classes: Sequence[Label] = HAM10000_LABELS,
    seed: int = 0,
    metadata: bool = False,
    **changes: Any,
) -> Bundle:
    """Write ``model.onnx`` and ``manifest.json`` into ``folder``.

    Args:
        folder: created if missing.
        color, height, width: the graph's input.
        classes: the output classes, of which some must be malignant.
        seed: of the graph's weights: each answers differently.
        metadata: whether the graph has the second input, for age, sex and site. Otherwise it is the same.
        **changes: fields of the manifest to override, such as ``name`` or ``operating_point``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    graph = tiny_graph(color=color, height=height, width=width, classes=len(classes), seed=seed)
    onnx.save(graph, folder / MODEL_NAME)
    if metadata:
        # Imported here: tests of the service run without what training needs.
        from training.calibration.metadata import MetadataFactors
        from training.export.metadata import add_metadata_input

        spec = tiny_metadata_input(classes)
        table = np.random.default_rng(seed).normal(0, 2, (spec.columns, len(classes)))
        add_metadata_input(folder / MODEL_NAME, MetadataFactors(table, spec.weight))
        changes = {"metadata": spec} | changes
    return save_bundle(folder, tiny_manifest(color, height, width, classes, **changes))


def tiny_metadata_input(classes: Sequence[Label] = HAM10000_LABELS) -> MetadataInput:
    """A second input with made-up metrics and thresholds of its own. Most sites have no column."""
    made_up = Interval(value=0.5, low=0.4, high=0.6)
    codes = [label.code for label in classes]
    return MetadataInput(
        ages=(0, 40, 60),
        sexes=("female", "male"),
        sites=("back", "face"),
        weight=0.5,
        threshold=0.25,
        target_sensitivity=0.9,
        sensitivity=made_up,
        specificity=made_up,
        prediction_sets=PredictionSets(
            coverage=0.8,
            thresholds=dict.fromkeys(codes, 0.0),
            measured=dict.fromkeys(["overall", *codes], made_up),
            mean_size=Interval(value=1.5, low=1.4, high=1.6),
        ),
        images=70,
        metrics={"balanced_accuracy": made_up},
        image_only={"balanced_accuracy": made_up},
    )


def tiny_manifest(
    color: Color, height: int, width: int, classes: Sequence[Label], **changes: Any
) -> Manifest:
    """A manifest whose figures are plainly made up, and whose limits no picture passes."""
    made_up = Interval(value=0.5, low=0.4, high=0.6)
    even = {label.code: 1 / len(classes) for label in classes}
    fields: dict[str, Any] = {
        "name": "tiny-test-bundle",
        "version": "0.0.1",
        "created": "2026-01-01",
        "git_revision": "0" * 40,
        "training_git_revisions": ["0" * 40],
        "recipe": "none",
        "classes": tuple(ClassInfo(**label._asdict()) for label in classes),
        "input": InputSpec(height=height, width=width, color=color),
        "outputs": REQUIRED_OUTPUTS,
        "members": tuple(
            Member(name=f"tiny_{index}", weight=weight, temperature=1.0, parameters=4 * len(classes))
            for index, weight in enumerate(WEIGHTS)
        ),
        "combination": "mean",
        "decision_rule": DecisionRule(tau=0.0, prior=even),
        "operating_point": OperatingPoint(
            threshold=0.5,
            target_sensitivity=0.9,
            sensitivity=Interval(value=0.9, low=0.8, high=1.0),
            specificity=made_up,
        ),
        "prediction_sets": PredictionSets(
            coverage=0.9,
            thresholds=dict.fromkeys(even, 0.1),
            measured=dict.fromkeys(["overall", *even], made_up),
            mean_size=Interval(value=1.5, low=1.4, high=1.6),
        ),
        "out_of_distribution": OutOfDistribution(method="distance from skin", threshold=1.0, quantile=0.99),
        "disagreement": Disagreement(threshold=1.0, quantile=0.95),
        "quality": QualityLimits(
            sharpness_min=0,
            brightness_min=0,
            brightness_max=255,
            contrast_min=0,
            clipped_max=1,
            quantile=0.99,
        ),
        "metrics": {"balanced_accuracy": made_up},
        "subgroups": (
            Subgroup(factor="sex", value="female", images=7, metrics={"balanced_accuracy": made_up}),
        ),
        "drift_reference": DriftReference(
            images=70, labels=even, confidence=(1 / CONFIDENCE_BINS,) * CONFIDENCE_BINS
        ),
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
    columns = round(ROWS * width / height)
    members = len(WEIGHTS)
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 12, (classes, channels, 1, 1)).astype(np.float32)
    # Mean colour of a lesion on skin is near the middle of the range: keep the scores near zero there.
    bias = (-0.6 * weights.sum(axis=(1, 2, 3)) + rng.normal(0, 0.5, classes)).astype(np.float32)
    cell = [height // ROWS, width // columns]
    constants = {
        "scale": np.array(255, np.float32),
        # The second member has half the first one's opinions.
        "weights": np.concatenate([weights, weights / 2]),
        "bias": np.concatenate([bias, bias / 2]),
        "by_member": np.array([0, members, classes, ROWS, columns], np.int64),
        "member_weights": np.array(WEIGHTS, np.float32).reshape(1, members, 1),
        "map_weights": np.array(WEIGHTS, np.float32).reshape(1, members, 1, 1, 1),
        "half": np.array(0.5, np.float32),
        "skin": np.array(SKIN, np.float32),
        **{f"axis_{axis}": np.array([axis], np.int64) for axis in (1, 2)},
        "cells_axes": np.array([3, 4], np.int64),
        "image_axes": np.array([1, 2, 3], np.int64),
    }
    node = helper.make_node
    nodes = [
        node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        node("Div", ["float", "scale"], ["unit"]),
        node("Transpose", ["unit"], ["planes"], perm=[0, 3, 1, 2]),
        node("AveragePool", ["planes"], ["cells"], kernel_shape=cell, strides=cell),
        node("Conv", ["cells", "weights", "bias"], ["scores"]),
        node("Reshape", ["scores", "by_member"], ["maps"]),
        node("ReduceMean", ["maps", "cells_axes"], ["logits"], keepdims=0),
        node("Softmax", ["logits"], ["opinions"], axis=2),
        node("Mul", ["opinions", "member_weights"], ["weighted"]),
        node("ReduceSum", ["weighted", "axis_1"], ["probabilities"], keepdims=0),
        node("Mul", ["maps", "map_weights"], ["weighted_maps"]),
        node("ReduceSum", ["weighted_maps", "axis_1"], ["evidence"], keepdims=0),
        node("Relu", ["evidence"], ["cams"]),
        # Total variation distance: half the sum of absolute differences.
        node("ReduceSum", ["weighted", "axis_1"], ["answer"], keepdims=1),
        node("Sub", ["opinions", "answer"], ["differences"]),
        node("Abs", ["differences"], ["distances"]),
        node("Mul", ["distances", "member_weights"], ["weighted_distances"]),
        node("ReduceSum", ["weighted_distances", "axis_2"], ["by_class"], keepdims=0),
        node("ReduceSum", ["by_class", "axis_1"], ["double"], keepdims=0),
        node("Mul", ["double", "half"], ["disagreement"]),
        node("ReduceMean", ["unit", "image_axes"], ["grey"], keepdims=0),
        node("Sub", ["grey", "skin"], ["from_skin"]),
        node("Abs", ["from_skin"], ["ood_score"]),
    ]
    shapes: dict[str, list[str | int | None]] = {
        "probabilities": ["N", classes],
        "cams": ["N", classes, ROWS, columns],
        "disagreement": ["N"],
        "ood_score": ["N"],
    }
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", height, width, channels])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model
