"""``serve``, the default command: serve until SIGTERM."""

import argparse
import gc
import logging
import os
from typing import Any

from service.observability.logs import set_up_logs
from service.service_links import service_links
from service.settings import PREFIX, load_settings

logger = logging.getLogger(__name__)


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("serve", help="serve until SIGTERM (the default)")
    parser.set_defaults(command=serve)


def serve(options: argparse.Namespace) -> int:
    """Serve, and return the exit status: 1 if the model cannot be served.

    Raises:
        SettingsError: a setting is wrong.
    """
    gc.disable()  # imported objects stay, so collections during the imports would free nothing
    try:
        from service.admission.api_keys import check_key_file
        from service.server import serve as run
    finally:
        gc.enable()

    settings = load_settings(check_key_file)
    set_up_logs(settings.log_format, settings.log_level)
    if links := service_links(os.environ, PREFIX):
        logger.warning(
            "Ignored variables that Kubernetes sets for a Service (see enableServiceLinks): %s",
            ", ".join(links),
        )
    address = operations = _address(settings.host, settings.port)
    if settings.operations_port is not None:
        operations = _address(settings.operations_host, settings.operations_port)
    logger.info("Page %s/   Swagger UI %s/docs   Metrics %s/metrics", address, address, operations)
    return run(settings)


def _address(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
