"""Orthanc's changes, and the file that says how far they are done."""

from pathlib import Path

import pytest
from pydicom import uid

from service.bridge.changes import Change, Orthanc, State
from service.bridge.http import new_session
from service.bridge.instances import Instance
from service.errors import BridgeStopped, InstanceRefused, SettingsError
from tests.service.bridge.scripted import Said, Scripted, scripted

CHANGES = {
    "Changes": [
        {"ChangeType": "NewPatient", "ID": "p", "Seq": 4},
        {"ChangeType": "NewInstance", "ID": "a", "Seq": 5},
        {"ChangeType": "StableSeries", "ID": "s", "Seq": 6},
        {"ChangeType": "NewInstance", "ID": "b", "Seq": 7},
    ],
    "Done": False,
    "Last": 7,
}


def orthanc(server: Scripted) -> Orthanc:
    return Orthanc(server.url, new_session(), 5)


def test_new_instances_are_found_in_order() -> None:
    with scripted({"GET /changes?since=3&limit=100": Said(body=CHANGES)}) as server:
        assert orthanc(server).changes_after(3) == ([(5, "a"), (7, "b")], 7, False)


def test_the_last_change_is_known() -> None:
    with scripted({"GET /changes?last": Said(body={"Changes": [], "Done": True, "Last": 9})}) as server:
        assert orthanc(server).last_change() == 9


@pytest.mark.parametrize("kind", [uid.VLPhotographicImageStorage, uid.DermoscopicPhotographyImageStorage])
@pytest.mark.parametrize(("patient", "expected"), [({"PatientID": "HOSP-4711 "}, "HOSP-4711"), ({}, "")])
def test_photographs_are_located(kind: str, patient: dict[str, str], expected: str) -> None:
    answers: dict[str, Said | list[Said]] = {
        "GET /instances/a/metadata/SopClassUid": Said(body=kind),
        "GET /instances/a": Said(body={"MainDicomTags": {"SOPInstanceUID": "1.3"}, "ParentSeries": "s"}),
        "GET /series/s": Said(body={"MainDicomTags": {"SeriesInstanceUID": "1.2"}, "ParentStudy": "t"}),
        "GET /studies/t": Said(
            body={"MainDicomTags": {"StudyInstanceUID": "1.1"}, "PatientMainDicomTags": patient}
        ),
    }
    with scripted(answers) as server:
        assert orthanc(server).photograph(Change(1, "a")) == Instance("1.1", "1.2", "1.3", expected)


@pytest.mark.parametrize(
    "kind", [uid.SecondaryCaptureImageStorage, uid.ComprehensiveSRStorage, uid.CTImageStorage, ""]
)
def test_other_objects_are_not_asked_about_further(kind: str) -> None:
    answers: dict[str, Said | list[Said]] = {
        "GET /instances/a": Said(body={"ParentSeries": "s"}),
        "GET /instances/a/metadata/SopClassUid": Said(body=kind),
    }
    with scripted(answers) as server:
        assert orthanc(server).photograph(Change(1, "a")) is None
    assert len(server.asked) == 2


def test_an_instance_that_was_deleted_is_none() -> None:
    with scripted({}) as server:
        assert orthanc(server).photograph(Change(1, "a")) is None


@pytest.mark.parametrize("path", ["/instances/a", "/instances/a/metadata/SopClassUid"])
def test_a_refusal_is_not_taken_for_a_deletion(path: str) -> None:
    answers: dict[str, Said | list[Said]] = {"GET /instances/a": Said(body={}), f"GET {path}": Said(400)}
    with scripted(answers) as server, pytest.raises(InstanceRefused):
        orthanc(server).photograph(Change(1, "a"))


def test_an_answer_that_is_no_json_stops_the_bridge() -> None:
    with scripted({"GET /changes?last": Said(body="<html>")}) as server, pytest.raises(BridgeStopped):
        orthanc(server).last_change()


def test_the_state_holds_a_number_and_nothing_else(tmp_path: Path) -> None:
    state = State(tmp_path / "state.json")
    assert state.read() is None
    for number in (0, 12, 345):
        state.write(number)
        assert state.read() == number
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]
    assert (tmp_path / "state.json").read_text() == '{"change": 345}'


def test_two_bridges_cannot_share_a_state(tmp_path: Path) -> None:
    state, other = State(tmp_path / "state.json"), State(tmp_path / "state.json")
    with state.locked(), pytest.raises(SettingsError, match="no other bridge uses"), other.locked():
        pass
    with other.locked():
        other.write(1)
    assert state.read() == 1


@pytest.mark.parametrize(
    "content", ["", "12", "[]", "{}", '{"change": -1}', '{"change": true}', '{"change": 1.5}']
)
def test_another_file_is_refused_and_not_replaced(tmp_path: Path, content: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(content)
    with pytest.raises(SettingsError, match="DERMASERVE_BRIDGE_STATE_FILE: expected a file such as"):
        State(path).read()
    assert path.read_text() == content


def test_a_state_that_cannot_be_written_stops_the_bridge(tmp_path: Path) -> None:
    (tmp_path / "state.json.new").mkdir()
    with pytest.raises(BridgeStopped, match="cannot be written"):
        State(tmp_path / "state.json").write(1)
