from pathlib import Path

import numpy as np

from bench.export import export_plain
from tests.training import scratch_recipe
from training.export.runtime import run_graph


def test_the_export_with_random_weights_answers_images_of_any_batch(tmp_path: Path) -> None:
    path = tmp_path / "made" / "plain.onnx"
    export_plain(str(scratch_recipe.__file__), path)
    height, width = scratch_recipe.RECIPE.size
    images = np.random.default_rng(1).integers(0, 256, (3, height, width, 3), np.uint8)
    for batch in (1, 3):
        found = run_graph(path, images, batch_size=batch)
        np.testing.assert_allclose(found["probabilities"].sum(axis=1), 1, atol=1e-4)
        assert np.isfinite(found["ood_score"]).all()
