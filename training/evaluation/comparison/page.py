"""Renders a self-contained HTML page, with all scripts, styles and pictures in one file.

The page is readable without its script and style: it has headings, a table of contents and alternative texts.
The script makes tables sortable by mouse and keyboard. The templates are ``page.html`` and ``blocks.html``;
jinja2 escapes all text.
"""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from training.evaluation.comparison.results import Table

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_BLOCKS: Any = _TEMPLATES.get_template("blocks.html").module
_PNG = b"\x89PNG"


@dataclass(frozen=True)
class Section:
    """A section of the page; ``blocks`` are HTML from the functions of this module."""

    title: str
    blocks: Sequence[Markup] = ()
    inner: Sequence["Section"] = ()


def render_page(title: str, introduction: Iterable[Markup], sections: Sequence[Section]) -> str:
    """Return the HTML of the page.

    Args:
        title: title of the page, plain text.
        introduction: HTML blocks before the table of contents.
        sections: the sections after it; inner sections are one level lower.
    """
    template = _TEMPLATES.get_template("page.html")
    return template.render(title=title, introduction=introduction, sections=sections).lstrip()


def paragraph(text: str) -> Markup:
    """Return a paragraph of plain text."""
    return _block("paragraph", text)


def missing(text: str) -> Markup:
    """Return a paragraph that says why something is not shown."""
    return _block("missing", text)


def card(picture: bytes, alt: str, caption: str = "", *, wide: bool = False) -> Markup:
    """Return a picture on a white card.

    Args:
        picture: the bytes of a PNG or JPEG file.
        alt: alternative text.
        caption: plain text below the picture.
        wide: whether the card takes the whole width.
    """
    kind = "png" if picture.startswith(_PNG) else "jpeg"
    source = f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
    return _block("card", source, alt, caption, wide)


def cards(pictures: Iterable[Markup], size: Literal["small", "middle", "broad"] = "middle") -> Markup:
    """Return cards side by side, as many of the given size as fit."""
    return _block("cards", list(pictures), size)


def sortable_table(table: Table, caption: str) -> Markup:
    """Return a table that sorts by a column when its title is pressed."""
    return _block("sortable_table", table, caption)


def picture_grid(
    caption: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[Markup]]]
) -> Markup:
    """Return a table of pictures.

    Args:
        caption: plain text.
        columns: titles of the columns, without the column of the rows' names.
        rows: name and HTML cells of each row.
    """
    return _block("picture_grid", caption, list(columns), rows)


def _block(name: str, *values: Any) -> Markup:
    """Render the macro ``name`` of ``blocks.html``."""
    block: Markup = getattr(_BLOCKS, name)(*values)
    return block
