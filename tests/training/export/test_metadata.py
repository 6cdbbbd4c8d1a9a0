"""The graph with the second input: bit-identical without metadata, adjusted with it."""

import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tests.tiny_bundle import write_tiny_bundle
from training.calibration.metadata import MetadataFactors
from training.export.metadata import add_metadata_input
from training.export.runtime import OUTPUTS

COLUMNS = 5


@pytest.fixture
def factors() -> MetadataFactors:
    return MetadataFactors(np.random.default_rng(0).normal(size=(COLUMNS, 7)), weight=0.5)


@pytest.fixture
def outputs(tmp_path: Path, factors: MetadataFactors) -> tuple[list[np.ndarray], ...]:
    """Return outputs of the original graph, with rows of zeros, and with known values, for 3 images."""
    bundle = write_tiny_bundle(tmp_path / "bundle")
    original, graph = bundle.path / "model.onnx", tmp_path / "model.onnx"
    shutil.copy(original, graph)
    add_metadata_input(graph, factors)
    size = bundle.manifest.input
    images = np.random.default_rng(1).integers(0, 256, (3, size.height, size.width, 3), np.uint8)

    def run(path: Path, **inputs: np.ndarray) -> list[np.ndarray]:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return list(session.run(OUTPUTS, {"image": images, **inputs}))

    return (
        run(original),
        run(graph, metadata=np.zeros((3, COLUMNS), np.float32)),
        run(graph, metadata=np.eye(3, COLUMNS, dtype=np.float32)),
    )


def test_without_metadata_every_output_is_bit_identical(outputs: tuple[list[np.ndarray], ...]) -> None:
    before, without, _ = outputs
    for name, old, new in zip(OUTPUTS, before, without, strict=True):
        assert np.array_equal(old, new), name


def test_with_metadata_only_the_probabilities_change(
    outputs: tuple[list[np.ndarray], ...], factors: MetadataFactors
) -> None:
    before, _, known = outputs
    expected = factors.apply(before[0].astype(np.float64), np.eye(3, COLUMNS, dtype=np.float32))
    assert OUTPUTS[0] == "probabilities"
    assert np.abs(known[0] - expected).max() < 1e-6
    assert np.abs(known[0] - before[0]).max() > 0.01
    for name, old, new in list(zip(OUTPUTS, before, known, strict=True))[1:]:
        assert np.array_equal(old, new), name
