"""``--metadata``: each file is scored with its age, sex and site; wrong values stop the run at its start."""

import json
from pathlib import Path

import pytest

from service.__main__ import main
from tests.service.app_client import running
from tests.service.bulk.conftest import near, table
from tests.tiny_bundle import write_tiny_bundle


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a bundle that reads metadata; the command uses it."""
    bundle = write_tiny_bundle(tmp_path / "bundle", metadata=True).path
    monkeypatch.setenv("DERMASERVE_BUNDLE", str(bundle))
    return bundle


@pytest.fixture
def scans(tmp_path: Path, images: list[bytes]) -> Path:
    for name, data in zip(("a.jpg", "b.jpg", "sub/a.jpg"), images, strict=False):
        path = tmp_path / "scans" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "scans"


def written(tmp_path: Path, text: str) -> str:
    file = tmp_path / "metadata.csv"
    file.write_text(text)
    return str(file)


def test_rows_have_the_answers_of_the_service_for_the_same_metadata(
    reader: Path, scans: Path, tmp_path: Path
) -> None:
    metadata = written(
        tmp_path, f"path,age,sex,site,note\n{scans}/a.jpg,55,female,back,x\nb.jpg,,,ear,\nother.jpg,5,,,\n"
    )
    command = ["predict", str(scans), "--recursive", "--metadata", metadata]
    assert main([*command, "--output", str(tmp_path / "out.csv")]) == 0
    assert main([*command, "--output", str(tmp_path / "out.jsonl")]) == 0
    rows = table(tmp_path / "out.csv")
    answers = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    used = {"age": 55.0, "sex": "female", "site": "back"}
    assert [answer["metadata_used"] for answer in answers] == [used, None, None]
    assert [(r["age_used"], r["sex_used"], r["site_used"]) for r in rows] == [
        ("55.0", "female", "back"), ("", "", ""), ("", "", "")
    ]  # fmt: skip
    with running(reader) as client:
        data = {"age": "55", "sex": "female", "site": "back"}
        sent = client.post("/predict", files={"file": (scans / "a.jpg").read_bytes()}, data=data).json()
    assert {code: near(rows[0][f"probability_{code}"]) for code in sent["probabilities"]} == sent[
        "probabilities"
    ]
    assert rows[0]["malignancy"] == sent["malignancy"]["flag"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "path,age\nb.jpg,50\na.jpg,60\nb.jpg,130\n",
            "line 4: age: expected a number of years from 0 to 120.",
        ),
        ("file,sex\nb.jpg,f\n", "line 2: sex: expected female or male."),
        ("file,site\nother.jpg,leg\n", "line 2: site: expected one of"),
        ("file,age\nb.jpg,50\nb.jpg,50\n", "line 3: the same file as in line 2."),
        ("file,age\na.jpg,50\n", "line 2: several files have this name; give the path."),
        ("image,age\nb.jpg,50\n", "expected a column path or file"),
        ("file,localization\nb.jpg,back\n", "at least one of age, sex, site"),
        ('file,age\n"b.jpg,50\n', "not CSV in UTF-8"),
    ],
)
def test_metadata_that_cannot_be_used_stops_the_run_at_its_start(
    reader: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    output = tmp_path / "out.csv"
    command = ["predict", str(scans), "--recursive", "--metadata", written(tmp_path, text)]
    assert main([*command, "--output", str(output)]) == 2
    assert message in capsys.readouterr().err
    assert not output.exists()


def test_a_model_that_reads_only_images_says_so(
    scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metadata = written(tmp_path, "file,age\nb.jpg,50\n")
    assert main(["predict", str(scans), "--metadata", metadata, "--output", str(tmp_path / "out.csv")]) == 0
    errors = capsys.readouterr().err
    assert "1 of 2 files have metadata" in errors
    assert "the metadata is not used" in errors
    assert [row["age_used"] for row in table(tmp_path / "out.csv")] == ["", ""]
