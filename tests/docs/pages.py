"""The documents of the project, for the tests that hold them to what they say."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("", "docs", "bench", ".github", ".github/ISSUE_TEMPLATE", "models/*", "models/*/report")


def documents() -> list[Path]:
    """Every Markdown file that is part of the project."""
    return [path for folder in FOLDERS for path in sorted(ROOT.glob(f"{folder}/*.md".lstrip("/")))]


def page(name: str) -> str:
    """The text of a document, by its path from the root."""
    return (ROOT / name).read_text(encoding="utf-8")


def block(name: str, section: str, language: str) -> str:
    """The one fenced block in a language of a section of a document."""
    text = page(name).partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)
    return str(found)


def table(text: str) -> list[list[str]]:
    """The cells of all rows of all tables in a text, without the heads."""
    rows = re.findall(r"^\|(.*)\|$", text, re.M)
    rules = [number for number, row in enumerate(rows) if set(row) <= set("-| ")]
    heads = {number - 1 for number in rules}
    kept = [row for number, row in enumerate(rows) if number not in {*rules, *heads}]
    return [[cell.strip() for cell in row.split("|")] for row in kept]


def prose(text: str) -> str:
    """A text without its code, in which nothing is a heading or a link."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))


def anchors(text: str) -> set[str]:
    """The anchors that a forge gives to the headings of a document."""
    found: set[str] = set()
    for heading in headings(text):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        same = sum(anchor == slug or re.fullmatch(rf"{slug}-\d+", anchor) is not None for anchor in found)
        found.add(f"{slug}-{same}" if same else slug)
    return found


def headings(text: str) -> Iterator[str]:
    """The headings of a document, of any level."""
    fenceless = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    yield from re.findall(r"^#{1,6} +(.*?)$", fenceless, re.M)
