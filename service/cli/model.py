"""What the commands that work with a model share: which one, and how it is opened."""

import argparse

from models.errors import BundleError, DermaserveError
from service.inference.loader import LoadedModel, load, verify
from service.settings import Settings, load_settings


def settings_for(options: argparse.Namespace) -> Settings:
    """The settings, but for those that ``options.bundle`` and ``options.device`` replace.

    Raises:
        SettingsError: a setting is wrong.
    """
    given = {name: value for name in ("bundle", "device") if (value := getattr(options, name)) is not None}
    return load_settings().model_copy(update=given)


def open_model(settings: Settings) -> LoadedModel:
    """Verify, load and warm up, as the service does.

    Raises:
        BundleError, DeviceError: in one line, naming the bundle.
    """
    try:
        return load(verify(settings), settings)
    except DermaserveError as error:
        why = str(error)
        failure = type(error)
    except Exception as error:
        # A graph that opens may fail when it runs, and ONNX Runtime's exceptions share no public base.
        why = f"cannot be used ({type(error).__name__}: {error})"
        failure = BundleError
    why = " ".join(why.split())  # ONNX Runtime's reasons have several lines
    name = str(settings.bundle.absolute())
    raise failure(why if why.startswith(name) else f"{name}: {why}")
