"""``key``: create an API key."""

import argparse
import sys
from typing import Any

from service.admission.api_keys import line_of, new_token


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "key",
        help="create an API key",
        description="Create an API key. Its line for the key file goes to standard output. The key itself "
        "goes to standard error: `python -m service key clinic >> keys.txt` stores one and shows the other.",
    )
    parser.add_argument("name", help="name of the client; appears in logs")
    parser.add_argument("--admin", action="store_true", help="allow the key to use /admin")
    parser.add_argument(
        "--rate", type=int, metavar="N", help="images per minute; default: DERMASERVE_RATE_LIMIT"
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
    print(f"The key of {options.name}, shown only now; send it as X-API-Key:\n{token}", file=sys.stderr)
    return 0
