"""``serve``, the default: serve until SIGTERM."""

import argparse
import logging
from typing import Any

from service.settings import load_settings


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("serve", help="serve until SIGTERM (the default)")
    parser.set_defaults(command=serve)


def serve(options: argparse.Namespace) -> int:
    """Serve; returns the exit status: 1 for a model that fails.

    Raises:
        SettingsError: a setting is wrong.
    """
    from service.server import serve as run

    settings = load_settings()
    _log(settings.log_level.upper())
    address = operations = _address(settings.host, settings.port)
    if settings.operations_port is not None:
        operations = _address(settings.operations_host, settings.operations_port)
    print(f"Page {address}/   Swagger UI {address}/docs   Metrics {operations}/metrics", flush=True)
    return run(settings)


def _address(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _log(level: str) -> None:
    """Log what we do in as much detail as asked for; of libraries, warnings only.

    Pillow's debug messages hold the tags of an image, and with them the names of patients.
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in ("service", "uvicorn"):
        logging.getLogger(name).setLevel(level)
