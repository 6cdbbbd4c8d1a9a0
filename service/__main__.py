"""The command line: ``python -m service [COMMAND]``. The default command is ``serve``."""

import argparse
import sys

from models.errors import DermaserveError
from service.cli import check, dicom_bridge, key, openapi, predict, serve, settings
from service.environment import described
from service.settings import Settings
from service.system.standard_streams import fill_standard_streams

_COMMANDS = (serve, check, predict, dicom_bridge, key, settings, openapi)


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status: 2 for wrong settings, options, bundles or outputs."""
    fill_standard_streams()
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except DermaserveError as error:
        for problem in str(error).splitlines():
            print(f"error: {problem}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="Serve a skin-lesion classifier over HTTP. Research use only, not for diagnosis.",
        epilog=f"Settings come from environment variables:\n{described(Settings)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=serve.serve)
    commands = parser.add_subparsers(metavar="command")
    for module in _COMMANDS:
        module.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
