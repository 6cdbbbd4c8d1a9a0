"""One HTML file with everything in it: no script, style, font or picture from elsewhere.

It reads without its script and style: headings, a table of contents, alternative texts. The script only
makes tables sortable, by mouse and keyboard. The HTML is in ``page.html`` and ``blocks.html``; jinja2
escapes every text that is put into it.
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
    """A heading with what follows it; ``blocks`` are HTML, as the functions of this module make it."""

    title: str
    blocks: Sequence[Markup] = ()
    inner: Sequence["Section"] = ()


def render_page(title: str, introduction: Iterable[Markup], sections: Sequence[Section]) -> str:
    """The whole file.

    Args:
        title: of the page, plain text.
        introduction: HTML blocks before the table of contents.
        sections: what follows it; an inner section is one level lower.
    """
    template = _TEMPLATES.get_template("page.html")
    return template.render(title=title, introduction=introduction, sections=sections).lstrip()


def paragraph(text: str) -> Markup:
    """Plain text."""
    return _block("paragraph", text)


def missing(text: str) -> Markup:
    """A sentence that says why something is not shown."""
    return _block("missing", text)


def card(picture: bytes, alt: str, caption: str = "", *, wide: bool = False) -> Markup:
    """A PNG or JPEG on a white card.

    Args:
        picture: the file.
        alt: what it shows, for those who do not see it.
        caption: plain text below it.
        wide: whether it takes the whole width.
    """
    kind = "png" if picture.startswith(_PNG) else "jpeg"
    source = f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
    return _block("card", source, alt, caption, wide)


def cards(pictures: Iterable[Markup], size: Literal["small", "middle", "broad"] = "middle") -> Markup:
    """Cards side by side, as many of that size as fit."""
    return _block("cards", list(pictures), size)


def sortable_table(table: Table, caption: str) -> Markup:
    """A table whose columns sort by a press on their titles."""
    return _block("sortable_table", table, caption)


def picture_grid(
    caption: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[Markup]]]
) -> Markup:
    """Pictures under the titles of their columns.

    Args:
        caption: plain text.
        columns: titles of the columns, without that of the rows' names.
        rows: each row's name and its cells, which are HTML.
    """
    return _block("picture_grid", caption, list(columns), rows)


def _block(name: str, *values: Any) -> Markup:
    """A block of ``blocks.html``."""
    block: Markup = getattr(_BLOCKS, name)(*values)
    return block
