"""From new instances to stored results. These tests need the extra ``dicom-bridge``: ``make bridge-test``."""

import copy
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from pydicom.dataset import Dataset

pytest.importorskip("highdicom", reason="the bridge is not tested: the extra dicom-bridge is not installed")

from service.bridge.archive import Archive
from service.bridge.bridge import Bridge
from service.bridge.changes import Change, Changes, Orthanc, State
from service.bridge.codes import load_codes
from service.bridge.results import uids_of
from service.bridge.scoring import Answer, Model, Service
from service.bridge.settings import BridgeSettings
from service.bridge.waits import Stopping
from service.errors import Away, BridgeStopped, InstanceRefused
from tests.archive.world import STUDY, Hurried, World
from tests.dicom_files import SECRETS


@pytest.fixture
def world(source: Dataset, answer: Answer) -> World:
    return World(source, answer, 5)


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state.json")


def bridge(world: World) -> Bridge:
    other = cast(Any, world)
    codes = load_codes(BridgeSettings().codes_file)
    return Bridge(cast(Archive, other), cast(Service, other), codes, Hurried(world.stop), age_and_sex=False)


def watch(world: World, state: State, *, start: Any = "first") -> None:
    world.stop.clear()
    with pytest.raises(Stopping):
        bridge(world).watch(cast(Orthanc, cast(Any, world)), state, start=start, pause=1)


def test_every_instance_gets_a_report_and_a_capture_once(world: World, state: State) -> None:
    watch(world, state)
    assert set(world.held) == world.expected()
    assert state.read() == 10


def test_a_second_run_does_nothing(world: World, state: State) -> None:
    watch(world, state)
    world.calls.clear()
    watch(world, state)
    assert not {"photograph", "fetch", "score", "store"} & set(world.calls)


def test_without_its_state_a_run_stores_nothing_twice(world: World, state: State, tmp_path: Path) -> None:
    watch(world, state)
    (tmp_path / "state.json").unlink()
    world.calls.clear()
    watch(world, state)
    assert not {"fetch", "score", "store"} & set(world.calls)


def test_a_new_database_of_orthanc_is_begun_with_its_first_change(world: World, state: State) -> None:
    state.write(999)
    watch(world, state)
    assert set(world.held) == world.expected()


def test_a_run_can_begin_with_what_arrives_from_now_on(world: World, state: State) -> None:
    watch(world, state, start="now")
    assert world.held == {}
    assert state.read() == 10


METHODS = ["changes_after", "photograph", "model", "holds", "fetch", "score", "store", "stored"]


@pytest.mark.parametrize("method", METHODS)
def test_who_is_away_for_a_while_costs_nothing(
    method: str, world: World, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.failures[method] = [Away("the archive does not answer")] * 50
    if method == "stored":  # the answer to a store is lost
        world.failures[method] = [Away("the archive does not answer")]
        monkeypatch.setattr(world, "store", repeatable(world))
    watch(world, state)
    assert set(world.held) == world.expected()


def repeatable(world: World) -> Callable[[str, Sequence[Dataset]], None]:
    """An archive that ignores an instance that it has, as real ones do."""

    def store(study: str, results: Sequence[Dataset]) -> None:
        world.held |= {result.SOPInstanceUID: result for result in results}
        world._call("stored")

    return store


class Killed(BaseException):
    """The end of the process."""


@pytest.mark.parametrize("method", METHODS)
def test_a_bridge_that_is_killed_anywhere_loses_nothing_and_stores_nothing_twice(
    method: str, world: World, state: State
) -> None:
    for _ in range(3):
        world.failures[method] = [cast(Exception, Killed())]
        with pytest.raises(Killed):
            bridge(world).watch(cast(Orthanc, cast(Any, world)), state, start="first", pause=1)
    watch(world, state)
    assert set(world.held) == world.expected()


def test_a_result_that_is_there_is_not_stored_with_the_missing_one(world: World, state: State) -> None:
    watch(world, state)
    report = uids_of(world.place(2), world.answer.model).report
    del world.held[report]
    world.stop.clear()
    assert bridge(world).study(STUDY, "Study 1") == 0
    assert set(world.held) == world.expected()


@pytest.mark.parametrize(
    "error",
    [
        InstanceRefused("the service cannot use the image: 422, corrupt-image"),
        ValueError("Quixote^Don is no valid name"),
        RecursionError("LaMancha"),
    ],
)
@pytest.mark.parametrize("method", ["photograph", "fetch", "score"])
def test_an_instance_that_cannot_be_read_is_noted_and_passed_by(
    method: str, error: Exception, world: World, state: State, caplog: pytest.LogCaptureFixture
) -> None:
    world.failures[method] = [error]
    with caplog.at_level(logging.INFO):
        watch(world, state)
    first = uids_of(world.place(0), world.answer.model)
    assert set(world.held) == world.expected() - {first.report, first.capture}
    (line,) = (record.getMessage() for record in caplog.records if record.levelno == logging.ERROR)
    assert line.startswith("Change 1 is passed by: ")
    assert str(error) in line or type(error).__name__ in line


def test_a_fault_of_one_instance_ends(world: World, state: State, caplog: pytest.LogCaptureFixture) -> None:
    world.failures["score"] = [Away("the service answered 500", fault=True) for _ in range(6)]
    watch(world, state)
    assert set(world.held) == world.expected()
    assert state.read() == 10
    expected = "Change 1 is put aside until another has been stored: the service answered 500, 6 times"
    assert expected in caplog.text
    assert "is passed by" not in caplog.text


@pytest.mark.parametrize("method", ["fetch", "score", "store"])
def test_an_archive_or_service_that_fails_for_all_instances_costs_none(
    method: str, world: World, state: State, caplog: pytest.LogCaptureFixture
) -> None:
    world.failures[method] = [Away("the archive does not answer (ReadTimeout)", fault=True)] * 30
    watch(world, state)
    assert (len(world.held), state.read()) == (0, 0)  # a restart begins with the first
    assert "is passed by" not in caplog.text
    watch(world, state)
    assert set(world.held) == world.expected()
    assert state.read() == 10


def test_what_was_put_aside_is_stored_once_the_other_side_works_again(world: World, state: State) -> None:
    world.failures["store"] = [Away("the archive answered 409", fault=True)] * 24
    watch(world, state)
    assert set(world.held) == world.expected()
    assert state.read() == 10


@pytest.mark.parametrize("bad", [(0, 1, 2), (0, 2), (1, 2, 3), (0, 1, 3, 4)])
def test_instances_that_always_fail_hold_up_no_others(
    bad: tuple[int, ...],
    world: World,
    state: State,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    refused = {world.place(number).uid for number in bad}

    def score(instance: Dataset, *, age_and_sex: bool) -> Answer:
        if instance.SOPInstanceUID in refused:
            raise Away("the service answered 500", fault=True)
        return world.answer

    monkeypatch.setattr(world, "score", score)
    watch(world, state)
    others = [uids_of(world.place(n), world.answer.model) for n in range(5) if n not in bad]
    assert set(world.held) == {uid for found in others for uid in (found.report, found.capture)}
    # Each result that is stored lets one that failed before it be passed by.
    passed_by, aside = [], []
    for number in range(5):
        if number in bad:
            aside.append(number)
        elif aside:
            passed_by.append(aside.pop(0))
    for number in bad:
        line = f"Change {2 * number + 1} is passed by: the service answered 500"
        assert (line in caplog.text) == (number in passed_by)
    # The state is before the first that waits for another to be stored.
    assert state.read() == min([10, *(2 * number for number in aside)])


def test_an_archive_that_fails_again_after_one_result_costs_one_image_at_most(
    world: World, state: State, caplog: pytest.LogCaptureFixture
) -> None:
    fault = Away("the archive answered 409", fault=True)
    # Full for three images, with room for the fourth, and full again.
    stores = iter([True] * 18 + [False] + [True] * 60)
    store = world.store

    def flapping(study: str, results: Sequence[Dataset]) -> None:
        if next(stores):
            raise fault
        store(study, results)

    world.store = flapping  # type: ignore[method-assign]
    watch(world, state)
    assert len(world.held) == 2
    assert caplog.text.count("is passed by") == 1
    assert state.read() == 2
    world.store = store  # type: ignore[method-assign]
    watch(world, state)
    assert len(world.held) == 8


def test_a_crash_loses_nothing_that_was_put_aside(world: World, state: State) -> None:
    fault = Away("the archive answered 409", fault=True)
    world.failures["store"] = [*[fault] * 12, cast(Exception, Killed())]
    for _ in range(3):
        with pytest.raises(Killed):
            bridge(world).watch(cast(Orthanc, cast(Any, world)), state, start="first", pause=1)
        world.failures["store"] = [cast(Exception, Killed())]
    world.failures.clear()
    watch(world, state)
    assert set(world.held) == world.expected()


def test_studies_by_hand_count_what_was_put_aside(world: World) -> None:
    world.failures["score"] = [Away("the service answered 500", fault=True)] * 30
    assert bridge(world).study(STUDY, "Study 1") == 5
    world.failures["score"] = [Away("the service answered 500", fault=True)] * 6
    assert bridge(world).study(STUDY, "Study 1") == 0
    assert set(world.held) == world.expected()


def test_a_fetched_image_of_another_patient_gets_no_results(
    world: World, state: State, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The archive has an image twice, with the same UIDs, and sends the wrong one."""
    places = [world.place(number) for number in range(5)]
    monkeypatch.setattr(world, "photograph", lambda change: places[int(change.resource)])
    world.sources[1].PatientID = "RE-SENT-1"
    watch(world, state)
    without = uids_of(places[1], world.answer.model)
    assert set(world.held) == world.expected() - {without.report, without.capture}
    assert "Change 3 is passed by: the archive has it for several patients" in caplog.text
    assert "RE-SENT-1" not in caplog.text


def test_an_image_sent_again_with_another_patient_is_not_taken_for_done(
    world: World, state: State, caplog: pytest.LogCaptureFixture
) -> None:
    watch(world, state)
    corrected = copy.deepcopy(world.sources[0])
    corrected.PatientID = "RE-SENT-1"
    world.sources = [corrected]
    world.stop.clear()
    assert bridge(world).study(STUDY, "Study 1") == 1
    assert all(result.PatientID == "HOSP-4711" for result in world.held.values())
    assert "its results are those of another patient" in caplog.text


def test_a_wrong_key_stops_the_bridge_and_loses_nothing(world: World, state: State) -> None:
    world.failures["score"] = [BridgeStopped("the service refuses the key")]
    with pytest.raises(BridgeStopped):
        bridge(world).watch(cast(Orthanc, cast(Any, world)), state, start="first", pause=1)
    watch(world, state)
    assert set(world.held) == world.expected()


def test_the_results_of_a_model_that_changed_meanwhile_have_its_uids(
    world: World, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world, "model", lambda: Model("ham10000-ensemble", "1.2.0"))
    watch(world, state)
    assert set(world.held) == world.expected()


def test_another_instance_than_the_one_asked_for_is_not_reported(world: World, state: State) -> None:
    world.sources[1].StudyInstanceUID = "1.2.826.0.1.99"
    watch(world, state)
    assert len(world.held) == 8


def test_what_is_not_an_orthanc_stops_the_bridge(world: World, state: State) -> None:
    for error in (InstanceRefused("Orthanc answered 404"), KeyError("Changes")):
        world.failures["changes_after"] = [error]
        with pytest.raises(BridgeStopped, match="changes cannot be read"):
            bridge(world).watch(cast(Orthanc, cast(Any, world)), state, start="first", pause=1)


def test_numbers_that_do_not_increase_stop_the_bridge(
    world: World, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        world, "changes_after", lambda number: Changes([Change(3, "1"), Change(3, "1")], 4, False)
    )
    with pytest.raises(BridgeStopped, match="do not increase"):
        bridge(world).watch(cast(Orthanc, cast(Any, world)), state, start="first", pause=1)


def test_studies_by_hand_count_what_has_no_results(world: World) -> None:
    world.failures["fetch"] = [InstanceRefused("the archive answered 404")]
    assert bridge(world).study(STUDY, "Study 1") == 1
    assert len(world.held) == 8
    world.failures["photographs"] = [InstanceRefused("the archive answered 400")]
    assert bridge(world).study(STUDY, "Study 1") == 1


def test_the_log_holds_no_tags(world: World, state: State, caplog: pytest.LogCaptureFixture) -> None:
    world.failures |= {
        "fetch": [ValueError("Quixote^Don"), Away("the archive does not answer")],
        "score": [KeyError("HOSP-4711")],
    }
    with caplog.at_level(logging.DEBUG):
        watch(world, state)
    # The command silences the libraries.
    text = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("service."))
    assert [secret for secret in (*SECRETS, "1.2.826") if secret in text] == []
    assert "Change 5: stored report and capture of ham10000-ensemble 1.3.0" in text
