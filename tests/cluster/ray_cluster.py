"""``predict --ray`` on a Ray cluster of two nodes: ``make ray-test``, some minutes.

Not collected by the suite. Each run is compared with what ``predict`` writes for the same images.
"""

import csv
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet
import pytest

from tests.cluster.nodes import ROOT, Cluster, end, free_port, wait_until
from tests.service.costly_images import scans
from tests.synthetic import draw_lesion, encoded

IMAGES = int(os.environ.get("IMAGES", "2000"))
CODES = ("mel", "nv", "bkl", "df", "vasc", "bcc", "akiec")
BAD = {
    "truncated.jpg": "corrupt-image",
    "letter.png": "unsupported-image",
    "empty.jpg": "unsupported-image",
    "costly.jpg": "image-too-costly",
    "nowhere.jpg": "unreadable-file",
}
"""File to the problem of its row."""

Table = list[dict[str, str]]

PREDICT = [sys.executable, "-m", "service", "predict"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(7)
    for index in range(IMAGES):
        lesion = draw_lesion(rng, code=CODES[index % len(CODES)], width=120, height=90)
        (folder / f"{index:05}.jpg").write_bytes(encoded(lesion, "JPEG"))
    whole = (folder / "00000.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "letter.png").write_bytes(b"Dear doctor")
    (folder / "empty.jpg").touch()
    (folder / "costly.jpg").write_bytes(scans(3000, 3000, 5000))
    (folder / "nowhere.jpg").symlink_to("gone.jpg")
    return folder


@pytest.fixture(scope="module")
def cluster(store: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    settings = {"DERMASERVE_DEVICE": "cpu", "DERMASERVE_DECODE_TIMEOUT": "1"}
    started = Cluster(tmp_path_factory.mktemp("nodes"), {**store, **settings})
    try:
        started.start()
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="module")
def expected(
    images: Path, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, str]]:
    """The rows of ``predict`` for all images."""
    output = tmp_path_factory.mktemp("predict") / "scores.csv"
    command = [*PREDICT, str(images), "--output", str(output)]
    assert subprocess.run(command, cwd=ROOT, env=cluster.environment, check=False).returncode == 1
    return table(output)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def start(cluster: Cluster, *arguments: str) -> "subprocess.Popen[str]":
    command = [*PREDICT, "--ray", "--address", cluster.address, *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=cluster.environment, stderr=subprocess.PIPE, text=True)


def finish(run: "subprocess.Popen[str]") -> str:
    """Wait for a run with failed images, and return what it printed."""
    _, errors = run.communicate()
    assert run.returncode == 1, errors
    return errors


def rows_of(folder: str) -> list[dict[str, Any]]:
    """The rows of all parts, in the order of their names."""
    system, path = pyarrow.fs.FileSystem.from_uri(folder)
    names = [info.path for info in system.get_file_info(pyarrow.fs.FileSelector(path))]
    assert all(name.rpartition("/")[2].startswith("part-") for name in names), names
    rows: list[dict[str, Any]] = (
        pyarrow.dataset.dataset(sorted(names), filesystem=system).to_table().to_pylist()
    )
    return rows


def compare(rows: Sequence[dict[str, Any]], expected: Sequence[dict[str, str]]) -> None:
    """Compare rows of Parquet with rows of CSV. Batches of another size may sum in another order."""
    assert list(rows[0]) == list(expected[0])
    by_path = {row["path"]: row for row in rows}
    assert Counter(row["path"] for row in rows) == Counter(row["path"] for row in expected)
    for wanted in expected:
        row = by_path[wanted["path"]]
        for name, cell in wanted.items():
            if isinstance(row[name], float):
                assert row[name] == pytest.approx(float(cell), abs=1e-6), (name, wanted["path"])
            else:
                assert row[name] == (cell or None), (name, wanted["path"])


def parts(folder: Path) -> int:
    return len(list(folder.glob("part-*.parquet")))


def test_a_killed_worker_and_a_killed_run_lose_no_image_and_write_none_twice(
    images: Path, cluster: Cluster, expected: Table, tmp_path: Path
) -> None:
    output = tmp_path / "scores"
    command = (str(images), "--output", str(output), "--part-size", "50")
    first = start(cluster, *command)
    try:
        wait_until(lambda: parts(output) >= 4 or first.poll() is not None)
        assert first.poll() is None, first.communicate()
        killed = cluster.actors()[0]
        killed.kill()
        before = parts(output)
        wait_until(lambda: parts(output) >= before + 4 or first.poll() is not None)
        assert first.poll() is None, first.communicate()
        first.kill()
    finally:
        end(first)
    written = {path.name: path.read_bytes() for path in output.glob("part-*.parquet")}
    assert 8 <= len(written) < (IMAGES + len(BAD)) / 50
    errors = finish(start(cluster, *command))
    assert f"{IMAGES + len(BAD)} files, " in errors
    assert f" of them in earlier runs: {len(BAD)} could not be scored" in errors
    rows = rows_of(f"file://{output}")
    compare(rows, expected)
    assert [row["path"] for row in rows] == [row["path"] for row in expected]
    found = {Path(row["path"]).name: row["problem"] for row in rows if row["status"] == "failed"}
    assert found == BAD
    # A third run has nothing to do, and needs no cluster.
    whole = {path.name: path.read_bytes() for path in output.iterdir()}
    assert f"{len(expected)} of them in earlier runs" in finish(start(cluster, *command))
    assert {path.name: path.read_bytes() for path in output.iterdir()} == whole


def test_images_in_an_object_store_are_scored_with_their_metadata_from_a_manifest(
    images: Path, cluster: Cluster, tmp_path: Path
) -> None:
    system, _ = pyarrow.fs.FileSystem.from_uri("s3://clinic/")
    names = [f"{index:05}.jpg" for index in range(60)]
    known = [("55", "female", "back"), ("", "", ""), ("20.5", "", "ear")]
    lines = ["file,age,sex,site"]
    for index, name in enumerate(names):
        with system.open_output_stream(f"clinic/scans/lesion {name}") as stream:
            stream.write((images / name).read_bytes())
        lines.append(",".join((name, *known[index % 3])))
    metadata = tmp_path / "metadata.csv"
    metadata.write_text("\n".join(lines))
    output = tmp_path / "scores.csv"
    command = [*PREDICT, *(str(images / name) for name in names)]
    command += ["--metadata", str(metadata), "--output", str(output)]
    assert subprocess.run(command, cwd=ROOT, env=cluster.environment, check=False).returncode == 0
    expected = table(output)
    for row in expected:
        row["path"] = f"s3://clinic/scans/lesion {Path(row['path']).name}"
    manifest = pyarrow.table(
        {
            "uri": [row["path"] for row in expected] + ["s3://clinic/gone.jpg"],
            "age": [*[(55.0, None, 20.5)[index % 3] for index in range(60)], None],
            "sex": [*[("female", None, None)[index % 3] for index in range(60)], None],
            "site": [*[("back", None, "ear")[index % 3] for index in range(60)], None],
        }
    )
    pyarrow.parquet.write_table(manifest, "clinic/manifest.parquet", filesystem=system)
    options = ("--manifest", "s3://clinic/manifest.parquet", "--part-size", "20")
    assert "61 files: 1 could not be scored" in finish(
        start(cluster, *options, "--output", "s3://clinic/scores")
    )
    rows = rows_of("s3://clinic/scores")
    (gone,) = [row for row in rows if row["status"] == "failed"]
    assert (gone["path"], gone["problem"]) == ("s3://clinic/gone.jpg", "unreadable-file")
    assert gone["detail"] == "The file cannot be read: No such file or directory."
    compare([row for row in rows if row is not gone], expected)
    # The folder itself, without metadata: the same images.
    listed = start(cluster, "s3://clinic/scans", "--output", "s3://clinic/listed")
    _, errors = listed.communicate()
    assert listed.returncode == 0, errors
    assert [row["path"] for row in rows_of("s3://clinic/listed")] == [row["path"] for row in expected]


def test_a_bundle_that_an_actor_cannot_load_ends_the_run_with_one_line(
    images: Path, cluster: Cluster, tmp_path: Path
) -> None:
    run = subprocess.run(
        [*PREDICT, "--ray", "--address", cluster.address, str(images), "--output", str(tmp_path / "out")],
        cwd=ROOT, env={**cluster.environment, "DERMASERVE_INFERENCE_WORKERS": "1", "DERMASERVE_DEVICE": "cpu"}
        | {"DERMASERVE_BUNDLE_DIGEST": "0" * 64},
        stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    assert line.startswith("error: ")
    assert "DERMASERVE_BUNDLE_DIGEST" in line


def test_a_part_that_ends_every_worker_ends_the_run(images: Path, cluster: Cluster, tmp_path: Path) -> None:
    run = start(cluster, str(images), "--output", str(tmp_path / "scores"))

    def kill_those_that_score() -> bool:
        for actor in cluster.actors():
            with suppress(psutil.NoSuchProcess):
                if actor.children():  # they decode
                    actor.kill()
        return run.poll() is not None

    try:
        wait_until(kill_those_that_score)
        errors = run.communicate()[1]
    finally:
        end(run)
    assert run.returncode == 2, errors
    assert "error: a part was given up after 4 workers ended; Ray's logs say why\n" in errors
    assert parts(tmp_path / "scores") == 0


def test_an_address_without_a_cluster_is_named(images: Path, cluster: Cluster, tmp_path: Path) -> None:
    arguments = ["--ray", "--address", f"127.0.0.1:{free_port()}", str(images), "--output", str(tmp_path)]
    run = subprocess.run(
        [*PREDICT, *arguments],
        cwd=ROOT,
        env=cluster.environment,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    assert "error: --address: expected a running Ray cluster, got 127.0.0.1:" in run.stderr
