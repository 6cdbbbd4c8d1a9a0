from pathlib import Path

import keras
import numpy as np
import pytest

from tests.synthetic_dataset import write_dataset
from tests.training.evaluation.comparison.synthetic_runs import synthetic_predictions, write_run
from training.data.dataset import read_dataset
from training.evaluation.comparison.activations import CHANNELS, draw_activations, feature_maps
from training.evaluation.comparison.pictures import Pictures
from training.evaluation.comparison.runs import (
    ComparedRun,
    ComparisonError,
    count_parameters,
    load_network,
    open_runs,
)


def _network(resolutions: int, *, nested: bool = True, channels: int = 3) -> keras.Model:
    """Return a network of any input size with convolutions at several resolutions."""
    keras.utils.set_random_seed(0)
    start = x = keras.Input((None, None, channels))
    for index in range(resolutions):
        x = keras.layers.Conv2D(6, 3, padding="same", activation="relu", name=f"conv_{index}_a")(x)
        x = keras.layers.Conv2D(6, 3, padding="same", activation="relu", name=f"conv_{index}_b")(x)
        if index < resolutions - 1:
            x = keras.layers.MaxPooling2D(name=f"pool_{index}")(x)
    trunk = keras.Model(start, x, name="backbone")
    inputs = keras.Input((None, None, channels), name="image")
    y = keras.layers.Rescaling(1 / 255, name="scale")(inputs)
    y = trunk(y) if nested else keras.layers.Conv2D(5, 3, name="only_conv")(y)
    y = keras.layers.GlobalAveragePooling2D(name="pooled")(y)
    return keras.Model(inputs, keras.layers.Dense(7, name="logits")(y), name="synthetic")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> ComparedRun:
    """Return a grey run with a network and no bundle."""
    folder = tmp_path_factory.mktemp("run")
    data = write_dataset(folder / "HAM", lesions=1)
    rows = read_dataset(data)
    made = write_run(folder / "run", rows, synthetic_predictions(rows, skill=0.8), data=data, color="grey")
    _network(4, channels=1).save(made / "only" / "network.keras")
    return open_runs([made])[0]


def test_maps_are_the_networks_from_fine_to_coarse() -> None:
    network = _network(5)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    names, maps = feature_maps(network, pixels)
    assert names == ["conv_0_b", "conv_1_b", "conv_2_b", "conv_3_b", "conv_4_b"]
    assert [found.shape for found in maps] == [(64 >> i, 64 >> i, 6) for i in range(5)]
    backbone = network.get_layer("backbone")
    expected = keras.ops.convert_to_numpy(backbone(pixels[None].astype(np.float32) / 255))[0]
    assert np.abs(maps[-1] - expected).max() < 1e-5


def test_with_few_resolutions_evenly_spaced_layers_are_shown() -> None:
    names, maps = feature_maps(_network(2), np.zeros((32, 32, 3), np.uint8))
    assert names == ["conv_0_a", "conv_0_b", "pool_0", "conv_1_a", "conv_1_b"]
    assert len(maps) == 5


def test_a_network_without_a_backbone_shows_its_own_layers() -> None:
    names, _ = feature_maps(_network(1, nested=False), np.zeros((32, 32, 3), np.uint8))
    assert "only_conv" in names


def test_a_network_without_a_backbone_on_pixels_has_no_maps() -> None:
    inputs = keras.Input((8, 8, 3))
    dense = keras.Model(inputs, keras.layers.Dense(7)(keras.layers.Flatten()(inputs)), name="flat")
    with pytest.raises(ComparisonError, match="flat has no layer with feature maps"):
        feature_maps(dense, np.zeros((8, 8, 3), np.uint8))


def test_the_figure_has_a_column_for_the_input_and_each_depth(run: ComparedRun) -> None:
    figure, names = draw_activations(run, "only", 0, Pictures(run.data))
    assert names == ["conv_0_b", "conv_1_b", "conv_2_b", "conv_3_b"]
    assert len(figure.axes) == CHANNELS * (1 + len(names))
    assert figure.axes[0].get_title() == "input\n64 × 64"


def test_without_a_bundle_parameters_are_counted_in_the_network(run: ComparedRun) -> None:
    assert count_parameters(run) == load_network(run, "only").count_params() > 0
    assert count_parameters(run, "only") == count_parameters(run)


def test_a_missing_or_damaged_network_is_reported(run: ComparedRun, tmp_path: Path) -> None:
    with pytest.raises(ComparisonError, match=r"other has no network\.keras"):
        load_network(run, "other")
    assert np.isnan(count_parameters(run, "other"))
    (run.folder / "broken").mkdir(exist_ok=True)
    (run.folder / "broken" / "network.keras").write_bytes(b"no archive")
    with pytest.raises(ComparisonError, match=r"broken/network\.keras cannot be loaded"):
        load_network(run, "broken")
