"""SECURITY.md: each threat is held by tests that exist, and each setting it names is one."""

import re

from service.settings import PREFIX, Settings
from tests.docs.pages import ROOT, page

PAGE = page("SECURITY.md")


def test_each_threat_names_tests_and_they_exist() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    known = {name for source in sources for name in re.findall(r"^def (test_\w+)", source, re.MULTILINE)}
    threats = [line.strip("|").split("|") for line in PAGE.splitlines() if re.match(r"\| [STRIDE] \|", line)]
    assert {row[0].strip() for row in threats} == set("STRIDE")
    for _, threat, _, held_by in threats:
        named = set(re.findall(r"`(\w+)`", held_by))
        assert named, threat
        assert named <= known, named - known


def test_each_setting_is_one() -> None:
    named = set(re.findall(rf"{PREFIX}(\w+)", PAGE))
    assert named
    assert named <= {name.upper() for name in Settings.model_fields}
