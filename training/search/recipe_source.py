"""Writes a recipe as Python source, without default values."""

import json
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

from training.recipe import Recipe

_WIDTH = 100  # longest line in columns


def recipe_source(recipe: Recipe, docstring: str) -> str:
    """Return Python source whose ``RECIPE`` equals ``recipe``, for ``training.catalogue.load_recipe``."""
    names: set[str] = set()
    value = _expression(recipe, "", names)
    imports = ", ".join(sorted(names))
    return f'"""{docstring}\n"""\n\nfrom training.recipe import {imports}\n\nRECIPE = {value}\n'


def _expression(value: Any, indent: str, names: set[str]) -> str:
    """Return ``value`` as a Python expression, and add the names of its dataclasses to ``names``."""
    inner = indent + "    "
    if is_dataclass(value):
        names.add(type(value).__name__)
        parts = [
            f"{field.name}={_expression(getattr(value, field.name), inner, names)}"
            for field in fields(value)
            if getattr(value, field.name) != _default(field)
        ]
        return type(value).__name__ + _bracketed(parts, indent)
    if isinstance(value, tuple):
        return _bracketed([_expression(item, inner, names) for item in value], indent, single=",")
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _bracketed(parts: list[str], indent: str, single: str = "") -> str:
    """Return ``parts`` in parentheses, on one line if they fit; ``single`` follows a single part."""
    line = f"({', '.join(parts)}{single if len(parts) == 1 else ''})"
    if len(indent + line) <= _WIDTH and "\n" not in line:
        return line
    return "(\n" + "".join(f"{indent}    {part},\n" for part in parts) + f"{indent})"


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()
