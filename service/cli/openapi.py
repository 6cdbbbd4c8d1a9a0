"""``openapi``: print the OpenAPI document."""

import argparse
import json
from typing import Any


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("openapi", help="print the OpenAPI document and exit")
    parser.set_defaults(command=_openapi)


def openapi_text() -> str:
    """Return the OpenAPI document. It depends on the installed extras, but on no setting and no bundle."""
    from service.app import create_app
    from service.settings import Settings

    # The defaults, without the environment, because the document is committed.
    document = create_app(Settings.model_construct()).openapi()
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _openapi(options: argparse.Namespace) -> int:
    print(openapi_text(), end="")
    return 0
