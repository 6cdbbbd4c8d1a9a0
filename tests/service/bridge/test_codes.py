"""The table of codes: the shipped one is complete, and an edited one is checked row by row."""

import csv
from pathlib import Path

import pytest

from models.labels import HAM10000_LABELS
from service.bridge.codes import LOCAL_SCHEME, Codes, load_codes
from service.bridge.settings import BridgeSettings
from service.errors import SettingsError
from service.inference.warnings import CODES as WARNINGS

SHIPPED = BridgeSettings().codes_file

VERIFIED = {
    "mel": "93655004",
    "nv": "400096001",
    "bcc": "254701007",
    "df": "427186000",
}


@pytest.fixture(scope="module")
def codes() -> Codes:
    return load_codes(SHIPPED)


def test_every_class_has_a_code_in_snomed_ct_where_one_fits(codes: Codes) -> None:
    for entry in HAM10000_LABELS:
        found = codes[f"class.{entry.code}"]
        assert found.scheme == ("SCT" if entry.code in VERIFIED else LOCAL_SCHEME)
        assert found.value == VERIFIED.get(entry.code, entry.code)


def test_a_class_of_two_diagnoses_names_both(codes: Codes) -> None:
    assert [code.value for code in codes.included_in("akiec")] == ["201101007", "254656002"]
    assert codes.included_in("mel") == []


def test_other_classes_and_warnings_get_local_codes(codes: Codes) -> None:
    assert codes.of_class("scc", "Squamous cell carcinoma") == (
        "scc",
        LOCAL_SCHEME,
        "Squamous cell carcinoma",
    )
    for warning in WARNINGS:
        assert codes.of_warning(warning).value == warning
    assert codes.of_warning("low_contrast").meaning == "Low contrast"


def edited(tmp_path: Path, **changes: list[str] | None) -> Path:
    """The shipped table with the row of a key replaced, or left out; keys with ``__`` for the dot."""
    rows = {key.replace("__", "."): row for key, row in changes.items()}
    with SHIPPED.open(newline="") as file:
        table = [rows.get(row[0], row) for row in csv.reader(file)]
    path = tmp_path / "codes.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(row for row in table if row is not None)
    return path


def test_an_edited_table_counts(tmp_path: Path) -> None:
    path = edited(tmp_path, class__vasc=["class.vasc", "1", "99CLINIC", "Angioma", "our list"])
    assert load_codes(path).of_class("vasc", "Vascular lesion") == ("1", "99CLINIC", "Angioma")


def test_the_mark_that_spreadsheets_write_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "codes.csv"
    path.write_text(SHIPPED.read_text(), encoding="utf-8-sig")
    assert load_codes(path)["class.mel"].value == "93655004"


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (["class.mel", "", "SCT", "Melanoma", "x"], "expected a value of 1 to 64 characters"),
        (["class.mel", "1", 17 * "S", "Melanoma", "x"], "expected a scheme of 1 to 16 characters"),
        (["class.mel", "1", "SCT", 65 * "M", "x"], "expected a meaning of 1 to 64 characters"),
        (["class.mel", "1", "SCT", "Mel\\anoma", "x"], "without a backslash"),
        (["class.mel", "1", "SCT", "Mélanome", "x"], "characters of ASCII"),
        (["class.mel", "1", "SCT", "Melanoma", " "], "expected a source, got nothing"),
        (["class.mel", "1", "SCT", "Melanoma"], "expected 5 cells, got 4"),
        (["klass.mel", "1", "SCT", "Melanoma", "x"], "expected a key that reports have, got 'klass.mel'"),
        (["class.nv", "1", "SCT", "Nevus", "x"], "the key class.nv is repeated"),
    ],
)
def test_a_wrong_row_is_refused_with_its_line(tmp_path: Path, row: list[str], problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_codes(edited(tmp_path, class__mel=row))
    (line,) = caught.value.problems
    assert line.startswith("DERMASERVE_BRIDGE_CODES_FILE: ")
    assert problem in line
    assert "codes.csv, line 8: " in line or "repeated" in line


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"the key flag\.benign is missing"):
        load_codes(edited(tmp_path, flag__benign=None))


@pytest.mark.parametrize("content", [b"", b"a,b\n", b"\xff", b'key,"'])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "codes.csv"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match="DERMASERVE_BRIDGE_CODES_FILE: expected "):
        load_codes(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="a file that can be read"):
        load_codes(tmp_path / "none.csv")
