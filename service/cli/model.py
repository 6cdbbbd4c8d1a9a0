"""Opens the model for the commands that use one."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from models.bundle import Bundle
from models.errors import BundleError, DermaserveError
from service.inference.loader import LoadedModel, load, verify
from service.settings import Settings, load_settings


def settings_for(options: argparse.Namespace) -> Settings:
    """Load the settings. ``options.bundle`` and ``options.device`` override theirs.

    Raises:
        SettingsError: a setting is wrong.
    """
    given = {name: value for name in ("bundle", "device") if (value := getattr(options, name)) is not None}
    return load_settings().model_copy(update=given)


def check_bundle(settings: Settings) -> Bundle:
    """Verify the bundle without loading it.

    Raises:
        BundleError: with a message of one line that names the bundle.
    """
    with _one_line(settings):
        return verify(settings)


def open_model(settings: Settings) -> LoadedModel:
    """Verify, load and warm up the bundle as the service does.

    Raises:
        BundleError, DeviceError: with a message of one line that names the bundle.
    """
    with _one_line(settings):
        return load(verify(settings), settings)


@contextmanager
def _one_line(settings: Settings) -> Iterator[None]:
    try:
        yield
        return
    except DermaserveError as error:
        why = str(error)
        failure = type(error)
    except Exception as error:
        # A graph may fail when it runs, and ONNX Runtime's exceptions share no public base class.
        why = f"cannot be used ({type(error).__name__}: {error})"
        failure = BundleError
    why = " ".join(why.split())  # ONNX Runtime's messages have several lines
    name = str(settings.bundle.absolute())
    raise failure(why if why.startswith(name) else f"{name}: {why}")
