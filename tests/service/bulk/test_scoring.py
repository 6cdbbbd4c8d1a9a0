"""Rows have the numbers of the service, in order, and say why a file has none."""

import csv
import io
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.__main__ import main
from service.bulk import scoring
from service.bulk.files import read_file
from service.bulk.rows import Csv
from tests.service import costly_images
from tests.service.app_client import Client
from tests.service.bulk.conftest import near, table
from tests.synthetic import encoded


def test_json_lines_are_the_responses_of_the_service(client: Client, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    assert main(["predict", str(folder), "--recursive", "--output", str(output)]) == 1
    rows = lines(output)
    assert len(rows) == 12
    for row in rows:
        path = row.pop("path")
        answer = client.post("/predict", files={"file": Path(path).read_bytes() or b"no image"}).json()
        del answer["request_id"]
        if "prediction" not in answer:
            assert row.pop("model") == {"name": "tiny-test-bundle", "version": "0.0.1"}
        # Batches of another size may sum in another order.
        assert json.loads(json.dumps(row), parse_float=near) == json.loads(
            json.dumps(answer), parse_float=near
        )


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_csv_and_json_lines_have_the_same_contents(folder: Path, tmp_path: Path) -> None:
    for name in ("out.csv", "out.jsonl"):
        assert main(["predict", str(folder), "--recursive", "--output", str(tmp_path / name)]) == 1
    rows, answers = table(tmp_path / "out.csv"), lines(tmp_path / "out.jsonl")
    assert [row["path"] for row in rows] == [answer["path"] for answer in answers]
    for row, answer in zip(rows, answers, strict=True):
        assert (row["model"], row["model_version"]) == ("tiny-test-bundle", "0.0.1")
        if row["status"] == "failed":
            assert answer["type"] == f"urn:dermaserve:problem:{row['problem']}"
            assert answer["detail"] == row["detail"]
            assert row["label"] == row["probability_mel"] == ""
            continue
        assert row["status"] == "ok"
        assert row["label"] == answer["prediction"]["label"]
        assert row["malignancy"] == answer["malignancy"]["flag"]
        assert row["prediction_set"].split() == answer["prediction_set"]["labels"]
        assert row["warnings"].split() == [warning["code"] for warning in answer["warnings"]]
        numbers = {
            "probability": answer["prediction"]["probability"],
            "malignancy_probability": answer["malignancy"]["probability"],
            "entropy": answer["uncertainty"]["entropy"],
            "disagreement": answer["uncertainty"]["disagreement"],
            "ood_score": answer["uncertainty"]["ood_score"],
            **{f"probability_{code}": value for code, value in answer["probabilities"].items()},
        }
        assert {name: float(row[name]) for name in numbers} == pytest.approx(numbers, abs=1e-6)


def test_rows_are_in_order_and_say_what_is_wrong_with_a_file(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    assert main(["predict", str(folder), "--output", str(output)]) == 1
    rows = table(output)
    names = [
        "0.jpg",
        "1.jpg",
        "2.jpg",
        "3.jpg",
        "3b.dcm",
        "4.jpg",
        "4b.jpg",
        "5.jpg",
        "5b.png",
        "6.jpg",
        "6b.jpg",
    ]
    assert [row["path"] for row in rows] == [str(folder / name) for name in names]
    assert {Path(row["path"]).name: row["problem"] for row in rows if row["status"] != "ok"} == {
        "4b.jpg": "corrupt-image",
        "5b.png": "unsupported-image",
        "6b.jpg": "unsupported-image",
    }


def test_rows_are_in_the_order_of_the_paths_even_if_a_file_takes_long(
    tmp_path: Path, images: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(6):
        (tmp_path / f"{index}.jpg").write_bytes(images[index])

    def slow(path: str, max_bytes: int) -> bytes:
        if path.endswith("0.jpg"):
            time.sleep(0.3)
        return read_file(path, max_bytes)

    monkeypatch.setattr(scoring, "read_file", slow)
    output = tmp_path / "out.csv"
    assert main(["predict", str(tmp_path), "--output", str(output)]) == 0
    assert [Path(row["path"]).name for row in table(output)] == [f"{index}.jpg" for index in range(6)]


def test_rows_go_to_standard_output_by_default(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(folder / "0.jpg"), str(folder / "1.jpg")]) == 0
    text, errors = capfd.readouterr()
    assert [row["status"] for row in csv.DictReader(io.StringIO(text))] == ["ok", "ok"]
    assert errors == "2 files: 0 could not be scored\n"  # no bar: this is no terminal


def test_unreadable_files_get_a_row_and_do_not_block_the_run(folder: Path, tmp_path: Path) -> None:
    os.mkfifo(folder / "pipe.jpg")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "nowhere.jpg").symlink_to("gone.jpg")
    (folder / "self").symlink_to(".")
    (folder / "folder.jpg").mkdir()
    output = tmp_path / "out.csv"
    given = [str(folder), "/dev/zero", str(folder / "none.jpg"), "--recursive", "--output", str(output)]
    assert main(["predict", *given]) == 1
    why = {
        Path(row["path"]).name: row["detail"] for row in table(output) if row["problem"] == "unreadable-file"
    }
    assert why == {
        "pipe.jpg": "It is not a regular file.",
        "zero": "It is not a regular file.",
        "loop.jpg": "The file cannot be read: Too many levels of symbolic links.",
        "nowhere.jpg": "The file cannot be read: No such file or directory.",
        "none.jpg": "The file cannot be read: No such file or directory.",
    }


def test_a_file_over_the_limit_of_bytes_or_pixels_gets_a_row(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: list[bytes]
) -> None:
    (folder / "big.jpg").write_bytes(images[0] + bytes(50_000))
    (folder / "wide.png").write_bytes(encoded(Image.new("L", (200, 200)), "PNG"))
    monkeypatch.setenv("DERMASERVE_MAX_BODY_BYTES", "40000")
    monkeypatch.setenv("DERMASERVE_MAX_PIXELS", "30000")
    output = tmp_path / "out.csv"
    assert main(["predict", str(folder), "--output", str(output)]) == 1
    problems = {Path(row["path"]).name: row["problem"] for row in table(output)}
    assert problems["big.jpg"] == "body-too-large"
    assert problems["wide.png"] == "image-too-large"
    assert problems["0.jpg"] == ""


def test_an_unexpected_error_of_one_file_does_not_stop_the_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:

    def failing(path: str, max_bytes: int) -> bytes:
        if path.endswith("1.jpg"):
            raise RuntimeError("secret")
        return read_file(path, max_bytes)

    monkeypatch.setattr(scoring, "read_file", failing)
    output = tmp_path / "out.csv"
    main(
        [
            "predict",
            str(folder / "0.jpg"),
            str(folder / "1.jpg"),
            str(folder / "2.jpg"),
            "--output",
            str(output),
        ]
    )
    assert [row["problem"] for row in table(output)] == ["", "internal-error", ""]
    assert "secret" not in output.read_text()
    assert "unexpected error" in caplog.text


def test_a_bundle_that_cannot_be_served_is_reported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(folder), "--bundle", "nowhere"]) == 2
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .startswith(f"error: {Path.cwd()}/nowhere/manifest.json: cannot be read")
    )


def test_overlays_are_those_of_the_service(client: Client, folder: Path, tmp_path: Path) -> None:
    (folder / "sub" / "0.jpg").write_bytes((folder / "0.jpg").read_bytes())
    output, overlays = tmp_path / "out.csv", folder / "overlays"
    command = ["predict", str(folder), "--recursive", "--output", str(output), "--gradcam", str(overlays)]
    assert main(command) == 1
    rows = [row for row in table(output) if row["status"] == "ok"]
    assert len({row["overlay"] for row in rows}) == len(rows) == 10
    for row in rows:
        answer = client.post("/gradcam", files={"file": Path(row["path"]).read_bytes()})
        expected = np.asarray(Image.open(io.BytesIO(answer.content)), dtype=int)
        found = np.asarray(Image.open(overlays / row["overlay"]), dtype=int)
        assert np.abs(found - expected).max() <= 1
    before = output.read_bytes()
    assert main(command) == 1  # the overlays are not taken for images
    assert output.read_bytes() == before


def test_few_files_are_in_memory_at_a_time(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DERMASERVE_DECODE_WORKERS", "2")
    monkeypatch.setenv("DERMASERVE_INFERENCE_WORKERS", "1")
    monkeypatch.setenv("DERMASERVE_MAX_BATCH_SIZE", "3")
    begun = held = most = 0
    score = scoring.Scorer._score

    async def counted(self: Any, path: str, metadata: Any) -> Any:
        nonlocal begun, held, most
        begun, held = begun + 1, held + 1
        most = max(most, held)
        return await score(self, path, metadata)

    def written(self: Csv, scored: Any) -> bytes:
        nonlocal held
        held -= 1
        return line(self, scored)

    line = Csv.line
    monkeypatch.setattr(scoring.Scorer, "_score", counted)
    monkeypatch.setattr(Csv, "line", written)
    assert main(["predict", str(many), "--output", str(tmp_path / "out.csv")]) == 0
    assert begun == 60
    assert most <= 2 * 3 + 2 * 2


def test_files_that_are_too_costly_get_a_row_and_do_not_stop_the_run(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DERMASERVE_DECODE_TIMEOUT", "0.5")
    monkeypatch.setenv("DERMASERVE_MAX_PIXELS", "10000000")
    (many / "10-scans.jpg").write_bytes(costly_images.scans(3000, 3000, 5000))
    (many / "20-strips.tif").write_bytes(costly_images.strips(9_990_000))
    output = tmp_path / "out.csv"
    assert main(["predict", str(many), "--output", str(output)]) == 1
    rows = table(output)
    assert len(rows) == 62
    assert [Path(row["path"]).name for row in rows if row["status"] != "ok"] == [
        "10-scans.jpg",
        "20-strips.tif",
    ]
