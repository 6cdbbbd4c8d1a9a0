"""``key``: make an API key."""

import argparse
import sys
from typing import Any

from service.admission.api_keys import line_of, new_token


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "key",
        help="make an API key",
        description="Make an API key. The line for the key file goes to standard output, the key itself "
        "to standard error, once: `python -m service key clinic >> keys.txt` keeps one and shows the other.",
    )
    parser.add_argument("name", help="who uses the key; appears in logs")
    parser.add_argument("--admin", action="store_true", help="the key may also use /admin")
    parser.add_argument(
        "--rate", type=int, metavar="N", help="images a minute; default DERMASERVE_RATE_LIMIT"
    )
    parser.set_defaults(command=_key)


def _key(options: argparse.Namespace) -> int:
    token = new_token()
    try:
        line = line_of(options.name, token, admin=options.admin, rate=options.rate)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(line, flush=True)
    print(f"The key of {options.name}, shown this once; send it as X-API-Key:\n{token}", file=sys.stderr)
    return 0
