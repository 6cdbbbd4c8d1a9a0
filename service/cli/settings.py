"""``settings``: print the page ``docs/settings.md``, which lists every setting."""

import argparse
from collections.abc import Mapping
from typing import Any

from pydantic_settings import BaseSettings

from service.bridge.settings import BridgeSettings
from service.environment import prefix_of
from service.settings import BRIDGE_PREFIX, PREFIX, Settings

_HEAD = f"""\
# Settings

Settings are environment variables. The service checks them at start: a wrong or unknown `{PREFIX}…` variable
stops it with exit status 2 and a message that names the variable. *Usable cores* are the cores that the CPU
quota and affinity of the process allow. `python -m service settings` writes this page.

See also [API keys and rates](operations.md#keys-and-rates), [memory to plan](operations.md#memory-to-plan)
and [what clients see of the limits](operations.md#limits-and-what-clients-see-of-them).

"""

_BRIDGE_HEAD = f"""
## The DICOM bridge

The [bridge](archive.md) is a program of its own. It reads only the variables `{BRIDGE_PREFIX}…`, which the
service ignores.

"""

_TABLE_HEAD = """\
| variable | default | accepted | meaning |
| --- | --- | --- | --- |
"""


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("settings", help="print every setting as a page in Markdown and exit")
    parser.set_defaults(command=_settings)


def settings_page() -> str:
    """The page: a row for each setting, in the order in which the classes have them."""
    return _HEAD + _table(Settings) + _BRIDGE_HEAD + _table(BridgeSettings)


def _table(kind: type[BaseSettings]) -> str:
    schema = kind.model_json_schema()["properties"]
    rows = []
    for name, field in kind.model_fields.items():
        # A default that depends on the machine, or that is None, is stated at the end of the description.
        meaning, _, default = str(field.description).partition("; default: ")
        cells = (
            f"`{prefix_of(kind)}{name.upper()}`",
            default or _written(field.default),
            _accepted(schema[name]),
            meaning,
        )
        rows.append(f"| {' | '.join(cells)} |")
    return _TABLE_HEAD + "\n".join(rows) + "\n"


def _written(value: object) -> str:
    """A value as people read it: ``false``, ``8000``, ``64,000,000``."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:,}" if isinstance(value, int) and value >= 100_000 else str(value)


def _accepted(schema: Mapping[str, Any]) -> str:
    """The values that a setting accepts, from its JSON schema; empty for any text."""
    found = next((s for s in schema.get("anyOf", ()) if s["type"] != "null"), schema)
    if "enum" in found:
        return ", ".join(found["enum"])
    if found["type"] == "boolean":
        return "true, false"
    low, high = found.get("minimum", found.get("exclusiveMinimum")), found.get("maximum")
    if low is None:
        return ""
    least = f"above {low:g}" if "exclusiveMinimum" in found else f"{low:,}"
    if high is None:
        return f"{least} or more"
    return f"{least}, up to {high:,}" if "exclusiveMinimum" in found else f"{least} to {high:,}"


def _settings(options: argparse.Namespace) -> int:
    print(settings_page(), end="")
    return 0
