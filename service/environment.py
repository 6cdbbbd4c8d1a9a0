"""Reads a class of settings from environment variables, and says what is wrong with them."""

import difflib
import os
import textwrap
from collections.abc import Callable
from typing import TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings

from service.errors import SettingsError
from service.service_links import service_links

T = TypeVar("T", bound=BaseSettings)


def read_environment(
    kind: type[T], *checks: Callable[[T], object], ignore: Callable[[str], bool] = lambda name: False
) -> T:
    """Read the settings of a program from the environment and check them.

    Args:
        kind: the settings. Variables that begin with its ``env_prefix`` are its own.
        checks: called with the settings; each may raise SettingsError for what only its owner can judge.
        ignore: whether a variable with that prefix belongs to another program.

    Raises:
        SettingsError: with one line for every wrong or unknown variable.
    """
    prefix = prefix_of(kind)
    known = {prefix + name.upper() for name in kind.model_fields}
    ours = {name for name in os.environ if name.upper().startswith(prefix) and not ignore(name)}
    ours -= set(service_links(os.environ, prefix))
    problems = [_unknown(name, known, prefix) for name in sorted(ours) if name.upper() not in known]
    try:
        settings = kind()
        for check in checks:
            check(settings)
    except ValidationError as error:
        problems += [_wrong(details, kind) for details in error.errors()]
    except SettingsError as error:
        problems += error.problems
    if problems:
        raise SettingsError(problems)
    return settings


def prefix_of(kind: type[BaseSettings]) -> str:
    """Return the start of the names of the variables of ``kind``."""
    return str(kind.model_config["env_prefix"])


def described(kind: type[BaseSettings]) -> str:
    """Return the variables of ``kind`` with their meanings, for ``--help``."""
    return "\n".join(
        textwrap.fill(f"{prefix_of(kind)}{name.upper()}  {field.description}", 96, subsequent_indent="      ")
        for name, field in kind.model_fields.items()
    )


def _unknown(name: str, known: set[str], prefix: str) -> str:
    bare = [other.removeprefix(prefix) for other in sorted(known)]
    close = difflib.get_close_matches(name.upper().removeprefix(prefix), bare, n=1)
    hint = f"; did you mean {prefix}{close[0]}?" if close else f"; known are {', '.join(sorted(known))}"
    return f"{name}: there is no such setting{hint}"


def _wrong(details: ErrorDetails, kind: type[BaseSettings]) -> str:
    if not details["loc"]:  # from a model validator, which names the variables itself
        return details["msg"].removeprefix("Value error, ")
    field = str(details["loc"][0])
    expected = details["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    meaning = kind.model_fields[field].description
    return f"{prefix_of(kind)}{field.upper()}: expected {expected} ({meaning}), got {details['input']!r}"
