"""One HTML file with everything in it: no script, style, font or picture from elsewhere.

It is plain HTML that reads without its script and style: headings, a table of contents, alternative
texts. The script only makes tables sortable, by mouse and keyboard.
"""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Literal

from training.evaluation.comparison.results import Cell, Table

_HERE = Path(__file__).parent
_PNG = b"\x89PNG"


@dataclass(frozen=True)
class Section:
    """A heading with what follows it; ``blocks`` are HTML, as the functions of this module make it."""

    title: str
    blocks: Sequence[str] = ()
    inner: Sequence["Section"] = ()


def render_page(title: str, introduction: Iterable[str], sections: Sequence[Section]) -> str:
    """The whole file.

    Args:
        title: of the page, plain text.
        introduction: HTML blocks before the table of contents.
        sections: what follows it; an inner section is one level lower.
    """
    contents, body = _sections(sections, level=2, prefix="s")
    return "\n".join(
        (
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            # The browser itself keeps the page from fetching anything.
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
            "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">",
            f"<title>{escape(title)}</title>",
            f"<style>\n{(_HERE / 'page.css').read_text(encoding='utf-8')}</style>",
            "</head>",
            "<body>",
            f"<header>\n<h1>{escape(title)}</h1>",
            *introduction,
            "</header>",
            f'<nav aria-label="Contents">\n<h2>Contents</h2>\n{contents}\n</nav>',
            f"<main>\n{body}\n</main>",
            f"<script>\n{(_HERE / 'sort.js').read_text(encoding='utf-8')}</script>",
            "</body>",
            "</html>\n",
        )
    )


def paragraph(text: str) -> str:
    """Plain text."""
    return f"<p>{escape(text)}</p>"


def missing(text: str) -> str:
    """A sentence in the place of what is not there."""
    return f'<p class="missing">{escape(text)}</p>'


def card(picture: bytes, alt: str, caption: str = "", *, wide: bool = False) -> str:
    """A PNG or JPEG on a white card.

    Args:
        picture: the file.
        alt: what it shows, for those who do not see it.
        caption: plain text below it.
        wide: whether it takes the whole width.
    """
    kind = "png" if picture.startswith(_PNG) else "jpeg"
    data = base64.b64encode(picture).decode()
    image = f'<img alt="{escape(alt)}" src="data:image/{kind};base64,{data}">'
    if wide:  # scrolls on a narrow screen, where its text would be too small
        image = f'<div class="scroll" role="region" tabindex="0" aria-label="Plot">{image}</div>'
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure class="{"wide card" if wide else "card"}">{image}{below}</figure>'


def cards(pictures: Iterable[str], size: Literal["small", "middle", "broad"] = "middle") -> str:
    """Cards side by side, as many of that size as fit."""
    return f'<div class="{size} cards">{"".join(pictures)}</div>'


def sortable_table(table: Table, caption: str) -> str:
    """A table whose columns sort by a press on their titles."""
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in table.columns)
    rows = "\n".join(
        "<tr>" + "".join(_cell(cell, first=index == 0) for index, cell in enumerate(row)) + "</tr>"
        for row in table.rows
    )
    return _table("sortable", caption, head, rows)


def picture_grid(caption: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Pictures under the titles of their columns.

    Args:
        caption: plain text.
        columns: titles of the columns, without that of the rows' names.
        rows: each row's name and its cells, which are HTML.
    """
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in ("", *columns))
    body = "\n".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for name, cells in rows
    )
    return _table("grid", caption, head, body)


def _sections(sections: Sequence[Section], *, level: int, prefix: str) -> tuple[str, str]:
    """The list of contents and the sections themselves."""
    entries, bodies = [], []
    for number, section in enumerate(sections, start=1):
        anchor = f"{prefix}{number}"
        inner_entries, inner_body = _sections(section.inner, level=level + 1, prefix=f"{anchor}-")
        entries.append(f'<li><a href="#{anchor}">{escape(section.title)}</a>{inner_entries}</li>')
        heading = f'<h{level} id="{anchor}">{escape(section.title)}</h{level}>'
        body = "\n".join((heading, *section.blocks, inner_body))
        bodies.append(f'<section aria-labelledby="{anchor}">\n{body}\n</section>')
    return (f"<ul>{''.join(entries)}</ul>" if entries else ""), "\n".join(bodies)


def _table(kind: str, caption: str, head: str, rows: str) -> str:
    # A region that scrolls must be reachable by keyboard, and then have a name.
    return (
        f'<figure class="table"><figcaption>{escape(caption)}</figcaption>'
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}">\n'
        f'<table class="{kind}"><thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table></div></figure>"
    )


def _cell(cell: Cell, *, first: bool) -> str:
    key = "" if cell.key is None else escape(str(cell.key))
    note = f" <small>{escape(cell.note)}</small>" if cell.note else ""
    tag, scope = ("th", ' scope="row"') if first else ("td", "")
    text = f"<strong>{escape(cell.text)}</strong>" if cell.strong else escape(cell.text)
    return f'<{tag}{scope} data-key="{key}">{text}{note}</{tag}>'
