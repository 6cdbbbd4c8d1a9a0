"""The command line: ``python -m service`` serves, ``python -m service openapi`` prints the API."""

import argparse
import json
import logging
import sys
import textwrap

from service.app import create_app
from service.errors import SettingsError
from service.server import serve
from service.settings import PREFIX, Settings, load_settings


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status: 2 for wrong settings, 1 for a model that fails."""
    command = _parser().parse_args(arguments).command
    if command == "openapi":
        print(openapi_text(), end="")
        return 0
    try:
        settings = load_settings()
    except SettingsError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        return 2
    _log(settings.log_level.upper())
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"http://{host}:{settings.port}"
    print(f"Page {address}/   Swagger UI {address}/docs   Metrics {address}/metrics", flush=True)
    return serve(settings)


def openapi_text() -> str:
    """The OpenAPI document, the same on every machine: it depends on no setting and no bundle."""
    # Defaults, unread and unchecked: the environment must not leak into a committed file.
    document = create_app(Settings.model_construct()).openapi()
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _log(level: str) -> None:
    """Log what we do in as much detail as asked for; of libraries, warnings only.

    Pillow's debug messages hold the tags of an image, and with them the names of patients.
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in ("service", "uvicorn"):
        logging.getLogger(name).setLevel(level)


def _parser() -> argparse.ArgumentParser:
    settings = "\n".join(
        textwrap.fill(f"{PREFIX}{name.upper()}  {field.description}", 96, subsequent_indent="      ")
        for name, field in Settings.model_fields.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="Serve a skin-lesion classifier over HTTP. Research use only, not for diagnosis.",
        epilog=f"Settings come from environment variables:\n{settings}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="command")
    commands.add_parser("serve", help="serve until SIGTERM (the default)")
    commands.add_parser("openapi", help="print the OpenAPI document and exit")
    return parser


if __name__ == "__main__":
    sys.exit(main())
