"""Feature maps of one network at several depths, for one image."""

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from training.evaluation.comparison.pictures import Pictures
from training.evaluation.comparison.runs import ComparedRun, ComparisonError, load_network

if TYPE_CHECKING:
    import keras

DEPTHS = 5
CHANNELS = 4


def draw_activations(
    run: ComparedRun, member: str, image: int, pictures: Pictures
) -> tuple[Figure, list[str]]:
    """Draw a column for each depth, with a row for each of the channels that vary most.

    Args:
        run, member: the run and the name of its member.
        image: index of a test image of the run.
        pictures: the images of the run's data set.

    Returns:
        The figure, and the names of the layers from first to last.

    Raises:
        ComparisonError: the network or the image is missing, or the network has no feature maps.
    """
    network = load_network(run, member)
    pixels = pictures.pixels(run.image_ids[image], run.image_size, run.color)
    names, maps = feature_maps(network, pixels)
    figure = Figure(figsize=(2 * len(maps) + 2, 2 * CHANNELS + 0.6), layout="constrained")
    axes = figure.subplots(CHANNELS, len(maps) + 1, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    axes[0, 0].imshow(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
    axes[0, 0].set_title(f"input\n{pixels.shape[0]} × {pixels.shape[1]}", fontsize=8)
    for column, (name, features) in enumerate(zip(names, maps, strict=True), start=1):
        height, width, channels = features.shape
        most_varied = np.argsort(-features.std(axis=(0, 1)), kind="stable")[:CHANNELS]
        for row, channel in enumerate(most_varied):
            axes[row, column].imshow(features[:, :, channel], cmap="viridis")
            axes[row, column].annotate(
                f"channel {channel}", (0.02, 0.98), xycoords="axes fraction", va="top", fontsize=6,
                color="white", bbox={"facecolor": "black", "alpha": 0.5, "pad": 1, "linewidth": 0},
            )  # fmt: skip
        axes[0, column].set_title(f"{name}\n{height} × {width} × {channels}", fontsize=8)
    return figure, names


def feature_maps(network: "keras.Model", pixels: np.ndarray) -> tuple[list[str], list[np.ndarray]]:
    """Return the names and outputs ``[h, w, channels]`` of up to ``DEPTHS`` layers, from input to head.

    These are the last layers at each resolution. If there are too few resolutions, as in a vision
    transformer, they are evenly spaced layers.

    Args:
        network: a network for float ``[N, H, W, C]``, possibly with a nested backbone.
        pixels: uint8 ``[H, W, C]``.

    Raises:
        ComparisonError: no layer has a feature map.
    """
    import keras

    trunk, x = network, keras.ops.convert_to_tensor(pixels[None].astype(np.float32))
    for index, layer in enumerate(network.layers):
        if isinstance(layer, keras.Model):  # the nested backbone; its input is the output of the layer before
            x = keras.Model(network.input, network.layers[index - 1].output)(x, training=False)
            trunk = layer
            break
    layers = [layer for layer in trunk.layers[1:] if _is_map(layer)]
    if not layers:
        raise ComparisonError(f"{network.name} has no layer with feature maps")
    # The layers of a network for any input size have no fixed shapes, so these are inferred for this image.
    shapes = keras.Model(trunk.inputs, [layer.output for layer in layers]).compute_output_spec(
        keras.KerasTensor(x.shape, dtype="float32")
    )
    chosen = _spread([tuple(shape.shape[1:3]) for shape in _listed(shapes)])
    outputs = keras.Model(trunk.inputs, [layers[index].output for index in chosen])(x, training=False)
    maps = [keras.ops.convert_to_numpy(output)[0].astype(np.float32) for output in _listed(outputs)]
    return [layers[index].name for index in chosen], maps


def _is_map(layer: Any) -> bool:
    shape: tuple[int | None, ...] = tuple(getattr(layer.output, "shape", ()))
    return len(shape) == 4 and shape[3] is not None


def _listed(outputs: Any) -> list[Any]:
    """Return a list; Keras returns a single output without one."""
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]


def _spread(resolutions: list[tuple[int, int]]) -> list[int]:
    """Return the indices of the layers to show, in order."""
    last = [i for i, r in enumerate(resolutions) if i + 1 == len(resolutions) or resolutions[i + 1] != r]
    candidates = last if len(last) >= DEPTHS - 1 else list(range(len(resolutions)))
    positions = np.linspace(0, len(candidates) - 1, min(DEPTHS, len(candidates)))
    return [candidates[int(position)] for position in np.rint(positions)]
