"""The page of settings is the one that the code writes."""

import re

from service.bridge.settings import BridgeSettings
from service.cli.settings import settings_page
from service.settings import BRIDGE_PREFIX, PREFIX, Settings
from tests.docs.pages import ROOT, documents, page, table

NAMES = [
    *(PREFIX + name.upper() for name in Settings.model_fields),
    *(BRIDGE_PREFIX + name.upper() for name in BridgeSettings.model_fields),
]


def test_the_page_is_what_the_command_writes() -> None:
    assert page("docs/settings.md") == settings_page(), "python -m service settings > docs/settings.md"


def test_every_setting_has_a_row_with_a_default_and_a_meaning() -> None:
    rows = table(settings_page())
    assert [row[0] for row in rows] == [f"`{name}`" for name in NAMES]
    assert [row for row in rows if not row[1] or row[1] == "None" or not row[3]] == []


def test_what_a_setting_accepts_is_stated() -> None:
    accepted = {row[0].strip("`").removeprefix(PREFIX): row[2] for row in table(settings_page())}
    assert accepted["PORT"] == "0 to 65,535"
    assert accepted["DEVICE"] == "auto, cpu, cuda"
    assert accepted["BATCH_TIMEOUT"] == "0 to 10"
    assert accepted["REQUEST_TIMEOUT"] == "above 0, up to 3,600"
    assert accepted["AUDIT"] == "true, false"


def test_documents_name_only_settings_that_exist() -> None:
    known = {*NAMES, f"{PREFIX}HAM10000", BRIDGE_PREFIX}
    history = {ROOT / "CHANGELOG.md"}
    for path in set(documents()) - history:
        named = set(re.findall(rf"{PREFIX}[A-Z0-9_]+", path.read_text(encoding="utf-8")))
        assert named - known == set(), path
