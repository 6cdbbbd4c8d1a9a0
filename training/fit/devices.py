"""Several devices for one training."""

import keras

from training.recipe import RecipeError


def use_devices(count: int) -> None:
    """Share every batch among ``count`` devices, each with a copy of the network (data parallelism).

    The gradients are averaged over the devices, so a step is that of one device with the whole
    batch, but for batch normalisation's rounding. To be called before the network is built.

    Raises:
        RecipeError: the backend has not so many devices, or Keras cannot distribute over them.
    """
    if count == 1:
        return
    if keras.backend.backend() != "jax":
        raise RecipeError(
            f"--devices {count}: Keras shares batches among devices with KERAS_BACKEND=jax only, "
            f"the backend is {keras.backend.backend()}"
        )
    found = keras.distribution.list_devices()
    if len(found) < count:
        raise RecipeError(f"--devices {count}: there are {len(found)}: {', '.join(found)}")
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=found[:count]))


def device_count() -> int:
    """Among how many devices each batch is shared."""
    distribution = keras.distribution.distribution()
    return 1 if distribution is None else int(distribution.device_mesh.devices.size)
