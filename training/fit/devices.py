"""Trains on several devices by data parallelism."""

import keras

from training.recipe import RecipeError


def use_devices(count: int) -> None:
    """Distribute every batch over ``count`` devices, each with a copy of the network.

    Gradients are averaged over the devices, so a step equals that of one device with the whole batch, except
    for rounding in batch normalisation. Call it before the network is built.

    Raises:
        RecipeError: there are fewer devices, or Keras cannot distribute batches with this backend.
    """
    if count == 1:
        return
    if keras.backend.backend() != "jax":
        raise RecipeError(
            f"--devices {count}: Keras distributes batches only with KERAS_BACKEND=jax, "
            f"but the backend is {keras.backend.backend()}"
        )
    found = keras.distribution.list_devices()
    if len(found) < count:
        raise RecipeError(f"--devices {count}: found only {len(found)}: {', '.join(found)}")
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=found[:count]))


def device_count() -> int:
    """Return the number of devices over which each batch is distributed."""
    distribution = keras.distribution.distribution()
    return 1 if distribution is None else int(distribution.device_mesh.devices.size)
