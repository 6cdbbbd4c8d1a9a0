"""Links between documents lead to files that exist, and to headings in them."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.docs.pages import ROOT, anchors, documents, prose

_LINK = re.compile(r"\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)|<(?:img|a)\b[^>]*?(?:src|href)=\"([^\"]+)\"")


def links(path: Path) -> list[str]:
    return ["".join(found) for found in _LINK.findall(prose(path.read_text(encoding="utf-8")))]


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    lost = []
    for link in links(path):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = unquote(link).partition("#")
        target = (path.parent / name).resolve() if name else path
        inside = target.exists() and target.is_relative_to(ROOT)
        if not inside or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            lost.append(link)
    assert lost == []


def test_every_document_is_reached_from_the_readme() -> None:
    reached, new = set(), {ROOT / "README.md"}
    while new:
        path = new.pop()
        reached.add(path)
        found = {(path.parent / link.partition("#")[0]).resolve() for link in links(path) if link[0] != "#"}
        new |= {target for target in found - reached if target.suffix == ".md" and target.is_file()}
    aside = {path for path in documents() if path.is_relative_to(ROOT / ".github")}
    assert set(documents()) - aside - reached == set()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# A title\n", {"a-title"}),
        ("## `POST /predict` → 200\n", {"post-predict--200"}),
        ("# Keys, and rates\n\n## Keys, and rates\n", {"keys-and-rates", "keys-and-rates-1"}),
        ("```sh\n# no heading\n```\n", set()),
    ],
)
def test_anchors_are_those_of_a_forge(text: str, expected: set[str]) -> None:
    assert anchors(text) == expected
