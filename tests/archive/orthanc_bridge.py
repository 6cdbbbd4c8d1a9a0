"""The bridge between a service and Debian's Orthanc, each killed in the middle: ``make bridge-test``.

Not collected by the suite. The tests are one story and run in their order.
"""

import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread, uid
from pydicom.dataset import Dataset

from models.labels import HAM10000_LABELS
from service.admission.api_keys import line_of, new_token
from tests.archive.orthanc import (
    CAPTURE,
    PASSWORD,
    PATIENCE,
    REPORT,
    USER,
    Archive,
    Bridge,
    bridge,
    missing,
    until,
)
from tests.dicom_files import SECRETS, dicom_file
from tests.service.process import Process, process
from tests.synthetic import draw_lesion, encoded

ROOT = "1.2.826.0.1.3680043.8.498.77"
COUNT = 20
PHOTOGRAPHS = (uid.DermoscopicPhotographyImageStorage, uid.VLPhotographicImageStorage)
CODES = [label.code for label in HAM10000_LABELS]


def instance(number: int, *, sop_class: str, study: int, **changes: Any) -> bytes:
    """A drawn lesion of a made-up patient; odd numbers are JPEGs."""
    picture = draw_lesion(np.random.default_rng(number), code=CODES[number % 7])
    jpeg = encoded(picture, "JPEG", quality=90) if number % 2 else None
    fields: dict[str, Any] = {
        "SOPClassUID": sop_class,
        "SOPInstanceUID": f"{ROOT}.3.{number}",
        "SeriesInstanceUID": f"{ROOT}.2.{study}",
        "StudyInstanceUID": f"{ROOT}.1.{study}",
        "StudyDate": "20260131",
        "StudyTime": "120000",
        "StudyID": "7",
        "AccessionNumber": "4711",
        "PatientBirthDate": "19470228",
        "PatientSex": "F",
        "SeriesNumber": 1,
        "InstanceNumber": number + 1,
        "Modality": "XC",
        "PhotometricInterpretation": "YBR_FULL_422" if jpeg else "RGB",
    }
    return dicom_file(picture, jpeg=jpeg, **fields | changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("story")


@pytest.fixture(scope="module")
def files(folder: Path) -> list[Path]:
    """The instances, 5 a study, half of them JPEGs."""
    paths = []
    for number in range(COUNT):
        path = folder / f"{'jpeg' if number % 2 else 'plain'}-{number}.dcm"
        path.write_bytes(instance(number, sop_class=PHOTOGRAPHS[number % 3 == 0], study=number // 5))
        paths.append(path)
    return paths


@pytest.fixture(scope="module")
def archive(folder: Path) -> Iterator[Archive]:
    assert missing() == [], "install Debian's orthanc, orthanc-dicomweb and dcmtk"
    running = Archive(folder)
    try:
        yield running
    finally:
        running.end()


@pytest.fixture(scope="module")
def token() -> str:
    return new_token()


@pytest.fixture(scope="module")
def services(folder: Path, shipped_bundle: Path, token: str) -> Iterator[list[Process]]:
    """The service, last of those that ran."""
    keys = folder / "keys.txt"
    keys.write_text(line_of("bridge", token) + "\n")
    with process(folder, shipped_bundle, API_KEYS_FILE=keys) as first:
        wait_ready(first)
        running = [first]
        try:
            yield running
        finally:
            running[-1].end()


def wait_ready(service: Process) -> None:
    until(lambda: service.status("/readyz") == 200 or service.process.poll() is not None)
    assert service.process.poll() is None, service.output()


def restarted(services: list[Process], folder: Path, bundle: Path) -> None:
    """Start the service again at its address."""
    again = Process(folder, bundle, port=services[-1].port, API_KEYS_FILE=folder / "keys.txt")
    services.append(again)
    wait_ready(again)


@pytest.fixture(scope="module")
def settings(folder: Path, archive: Archive, services: list[Process], token: str) -> dict[str, Any]:
    key, password = folder / "key", folder / "password"
    key.write_text(token)
    password.write_text(PASSWORD)
    return {
        "SERVICE_URL": services[0].url,
        "SERVICE_KEY_FILE": key,
        "ORTHANC_URL": archive.url,
        "ARCHIVE_USER": USER,
        "ARCHIVE_PASSWORD_FILE": password,
        "LOG_LEVEL": "debug",
    }


def results(archive: Archive, sop_class: str) -> list[Dataset]:
    return [dcmread(io.BytesIO(archive.file(own))) for own in archive.instances(sop_class).values()]


def source_of(result: Dataset) -> str:
    """The UID of the one instance that a result names."""
    if result.SOPClassUID == CAPTURE:
        (reference,) = result.SourceImageSequence
    else:
        (study,) = result.CurrentRequestedProcedureEvidenceSequence
        (series,) = study.ReferencedSeriesSequence
        (reference,) = series.ReferencedSOPSequence
        assert study.StudyInstanceUID == result.StudyInstanceUID
    return str(reference.ReferencedSOPInstanceUID)


def test_when_all_three_are_killed_nothing_is_lost_and_nothing_twice(
    archive: Archive,
    services: list[Process],
    settings: dict[str, Any],
    files: list[Path],
    folder: Path,
    shipped_bundle: Path,
) -> None:
    def stored(count: int) -> None:
        until(lambda: archive.count(REPORT, CAPTURE) >= count)

    archive.send(*files[::2])  # before the bridge runs
    first = Bridge(folder, settings)
    try:
        stored(5)
    finally:
        first.kill()
    archive.send(*files[1::2])
    with bridge(folder, settings) as second:
        stored(12)
        services[-1].end()
        until(lambda: "the service does not answer" in second.log())
        held = archive.count(REPORT, CAPTURE)
        assert held < 2 * COUNT
        restarted(services, folder, shipped_bundle)
        stored(held + 4)
        archive.kill()
        until(lambda: re.search("(Orthanc|the archive) does not answer", second.log()) is not None)
        archive.start()
        stored(2 * COUNT)
        until(lambda: json.loads(second.state.read_text())["change"] == archive.get("/changes?last")["Last"])
        assert second.stop() == 0
    for sop_class in (REPORT, CAPTURE):
        named = [source_of(result) for result in results(archive, sop_class)]
        assert sorted(named) == sorted(f"{ROOT}.3.{number}" for number in range(COUNT))
    assert archive.count(*PHOTOGRAPHS) == COUNT


def test_results_lie_in_the_study_and_with_the_patient_of_their_source(archive: Archive) -> None:
    sources = {str(s.SOPInstanceUID): s for kind in PHOTOGRAPHS for s in results(archive, kind)}
    for sop_class in (REPORT, CAPTURE):
        found = results(archive, sop_class)
        for result in found:
            source = sources[source_of(result)]
            for name in (
                "StudyInstanceUID",
                "PatientID",
                "PatientName",
                "PatientBirthDate",
                "InstanceNumber",
            ):
                assert result[name].value == source[name].value
        # For each of the 4 series of photographs, one of reports and one of captures.
        assert len({result.SeriesInstanceUID for result in found}) == 4


def test_every_result_is_valid(archive: Archive, tmp_path: Path) -> None:
    validator = Path(sys.executable).with_name("dciodvfy")
    path = tmp_path / "result.dcm"
    count = 0
    for kind, iod in ((REPORT, "ComprehensiveSR"), (CAPTURE, "SCImage")):
        for own in archive.instances(kind).values():
            path.write_bytes(archive.file(own))
            done = subprocess.run([validator, path], capture_output=True, text=True, check=False)
            text = done.stdout + done.stderr
            assert iod in text
            assert "Error" not in text, text
            count += 1
    assert count == 2 * COUNT


def test_every_report_is_read_by_dcmtk_and_says_what_the_service_said(
    archive: Archive, tmp_path: Path
) -> None:
    path = tmp_path / "report.dcm"
    for own in archive.instances(REPORT).values():
        path.write_bytes(archive.file(own))
        done = subprocess.run(
            ["dsrdump", "+Pl", path], capture_output=True, text=True, errors="replace", check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count('"Calibrated probability of the class"') == len(CODES)
        assert "Research use only" in done.stdout
        values = re.findall(r'"Calibrated probability of the class"\)="([^"]*)"', done.stdout)
        assert sum(map(float, values)) == pytest.approx(1, abs=1e-6)


def test_a_bridge_without_its_state_stores_nothing_twice(
    archive: Archive, settings: dict[str, Any], tmp_path: Path
) -> None:
    with bridge(tmp_path, settings) as again:
        until(lambda: again.log().count("has results of") == COUNT)
        assert again.stop() == 0
    assert archive.count(REPORT) == archive.count(CAPTURE) == COUNT


def test_studies_by_hand_and_what_is_passed_by(
    archive: Archive, settings: dict[str, Any], tmp_path: Path
) -> None:
    """A damaged JPEG gets no results, and holds up none; a losslessly compressed one is decompressed."""
    good = instance(100, sop_class=PHOTOGRAPHS[0], study=50)
    (tmp_path / "plain-good.dcm").write_bytes(good)
    subprocess.run(
        ["dcmcjpeg", "+e1", "+un", tmp_path / "plain-good.dcm", tmp_path / "lossless-good.dcm"], check=True
    )
    damaged = dcmread(io.BytesIO(instance(101, sop_class=PHOTOGRAPHS[0], study=50)))
    damaged.PixelData = damaged.PixelData[:4000] + bytes(len(damaged.PixelData) - 4000)
    damaged.save_as(tmp_path / "jpeg-damaged.dcm")
    other = instance(102, sop_class=uid.SecondaryCaptureImageStorage, study=50)
    (tmp_path / "plain-other.dcm").write_bytes(other)
    for name in ("lossless-good", "jpeg-damaged", "plain-other"):
        archive.send(tmp_path / f"{name}.dcm")
    with bridge(tmp_path, settings, "--study", f"{ROOT}.1.50", "--study", f"{ROOT}.1.0") as by_hand:
        assert by_hand.process.wait(PATIENCE) == 1
        assert "Study 1 has 2 photographs" in by_hand.log()
        assert "Study 1, photograph 1: stored report and capture" in by_hand.log()
        assert "Study 1, photograph 2 is passed by: the service cannot use the image: 422" in by_hand.log()
        assert by_hand.log().count("Study 2, photograph") == 5
        assert not by_hand.state.exists()
    assert archive.count(REPORT) == COUNT + 1


def test_age_and_sex_reach_the_model_only_if_the_operator_says_so(
    archive: Archive, settings: dict[str, Any], tmp_path: Path
) -> None:
    for number, sent in ((200, "false"), (202, "true")):
        path = tmp_path / f"plain-{number}.dcm"
        path.write_bytes(instance(number, sop_class=PHOTOGRAPHS[0], study=number))
        archive.send(path)
        own = settings | {"SEND_AGE_AND_SEX": sent}
        with bridge(tmp_path, own, "--study", f"{ROOT}.1.{number}") as by_hand:
            assert by_hand.process.wait(PATIENCE) == 0, by_hand.log()
        (report,) = (r for r in results(archive, REPORT) if source_of(r) == f"{ROOT}.3.{number}")
        texts = [item.TextValue for item in report.ContentSequence if item.ValueType == "TEXT"]
        assert ("age 78.0, sex female" in texts) == (sent == "true"), texts


def test_results_never_get_another_patient_when_an_image_is_sent_again(
    archive: Archive, settings: dict[str, Any], tmp_path: Path
) -> None:
    """The same UIDs with a corrected PatientID: Orthanc then has two instances, and sends either."""

    def send(patient: str) -> None:
        path = tmp_path / f"plain-{patient}.dcm"
        path.write_bytes(instance(300, sop_class=PHOTOGRAPHS[0], study=300, PatientID=patient))
        archive.send(path)

    with bridge(tmp_path, settings | {"START": "now"}) as watching:
        until(lambda: "Watching changes" in watching.log())
        send("WRONG")
        until(lambda: "stored report and capture" in watching.log())
        send("RIGHT")
        until(lambda: "is passed by" in watching.log())
        assert watching.stop() == 0
    assert re.search("passed by: (its results are those of another|the archive has it for)", watching.log())
    assert "RIGHT" not in watching.log()
    with bridge(tmp_path, settings, "--study", f"{ROOT}.1.300") as by_hand:
        assert by_hand.process.wait(PATIENCE) == 1
        assert "Study 1 has 2 photographs" in by_hand.log()
    found = [r for kind in (REPORT, CAPTURE) for r in results(archive, kind)]
    assert [r.PatientID for r in found if r.StudyInstanceUID == f"{ROOT}.1.300"] == ["WRONG"] * 2


def test_a_wrong_key_or_password_ends_the_bridge(settings: dict[str, Any], tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text(new_token())
    for name, side in (("SERVICE_KEY_FILE", "the service"), ("ARCHIVE_PASSWORD_FILE", "the archive")):
        with bridge(tmp_path, settings | {name: wrong}) as refused:
            assert refused.process.wait(PATIENCE) == 1
            assert f"The bridge cannot go on: {side} refuses the key or password" in refused.log()


def test_logs_and_files_hold_nothing_of_a_patient(
    folder: Path, services: list[Process], settings: dict[str, Any], token: str
) -> None:
    with bridge(folder, settings) as last:
        before = last.log().count("Watching changes")
        until(lambda: last.log().count("Watching changes") > before)
        assert last.stop() == 0
    for text in (last.log(), services[-1].output()):
        assert [secret for secret in (*SECRETS, ROOT, "2.25.", token, PASSWORD) if secret in text] == []
    assert last.files() == ["state.json", "state.json.lock"]
    assert re.fullmatch(r'\{"change": \d+\}', last.state.read_text())
