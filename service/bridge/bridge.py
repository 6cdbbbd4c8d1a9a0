"""From new instances to stored results, one at a time."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from pydicom.dataset import Dataset

from service.bridge.archive import Archive
from service.bridge.capture import capture_of
from service.bridge.changes import Orthanc, State
from service.bridge.codes import Codes
from service.bridge.instances import Instance, patient_of
from service.bridge.report import report_of
from service.bridge.results import Uids, uids_of
from service.bridge.scoring import Answer, Model, Service
from service.bridge.waits import Stopping, Waits
from service.errors import BridgeError, BridgeStopped, InstanceFaulty, InstanceRefused

T = TypeVar("T")

logger = logging.getLogger(__name__)


class _Task(NamedTuple):
    """An instance to score.

    Attributes:
        number: of its change, or within its study.
        name: in the log, where UIDs do not belong.
        find: returns its place; None if it is not to be scored.
    """

    number: int
    name: str
    find: Callable[[], Instance | None]


class Bridge:
    """Scores instances, and stores a report and a capture of each."""

    def __init__(
        self, archive: Archive, service: Service, codes: Codes, waits: Waits, *, age_and_sex: bool
    ) -> None:
        """Create it.

        Args:
            archive: holds the instances and gets the results.
            service: scores.
            codes: of the reports.
            waits: between attempts.
            age_and_sex: whether the patient's age and sex go to the service.
        """
        self._archive = archive
        self._service = service
        self._codes = codes
        self._waits = waits
        self._age_and_sex = age_and_sex
        self._aside: list[_Task] = []  # met faults, which may be those of the other side
        self._passed_by = 0

    def check(self) -> None:
        """Wait until archive and service answer.

        Raises:
            Stopping: the bridge is to stop.
            BridgeStopped: they are not what they should be.
        """
        self._waits.repeat(self._archive.check)
        self._waits.repeat(self._service.model)

    def watch(self, orthanc: Orthanc, state: State, *, start: Literal["first", "now"], pause: float) -> None:
        """Score what arrives, until ``Stopping``.

        Args:
            orthanc: whose changes are watched.
            state: how far they are done. After a crash, the bridge repeats the change that it was at.
            start: where to begin if ``state`` is empty.
            pause: seconds between two looks.

        Raises:
            Stopping: the bridge is to stop.
            BridgeStopped: it cannot go on.
            SettingsError: the state file is not one.
        """
        done = state.read()
        if done is None:
            done = 0 if start == "first" else self._of_orthanc(orthanc.last_change)
            state.write(done)
        logger.info("Watching changes after %d", done)
        while True:
            page = self._of_orthanc(partial(orthanc.changes_after, done))
            if page.last < done and self._of_orthanc(orthanc.last_change) < done:
                # Orthanc never lowers its numbers, so its data base is another. What has results is skipped.
                logger.warning("Orthanc's changes end before %d: starting again with the first", done)
                done = 0
                self._aside.clear()
                continue
            numbers = [done, *(change.number for change in page.new)]
            if any(after <= before for before, after in pairwise(numbers)):
                raise BridgeStopped("the numbers of Orthanc's changes do not increase")
            for change in page.new:
                self._do(_Task(change.number, f"Change {change.number}", partial(orthanc.photograph, change)))
                done = change.number
                self._keep(state, done)
            stuck = page.last <= done and not page.new
            if page.last > done:
                done = page.last
                self._keep(state, done)
            if page.done or stuck:
                self._waits.pause(pause)

    def study(self, study: str, name: str) -> int:
        """Score the photographs of a study.

        Args:
            study: its UID.
            name: of the study in the log, where UIDs do not belong.

        Returns:
            How many could not be scored.

        Raises:
            Stopping: the bridge is to stop.
            BridgeStopped: it cannot go on.
        """
        try:
            instances = self._waits.repeat(partial(self._archive.photographs, study))
        except (Stopping, BridgeStopped):
            raise
        except Exception as error:
            # The archive's answer is parsed by libraries that raise errors of many types.
            logger.error("%s cannot be read: %s", name, described(error))
            return 1
        logger.info("%s has %d photographs", name, len(instances))
        self._aside, self._passed_by = [], 0
        for number, instance in enumerate(instances, 1):
            self._do(_Task(number, f"{name}, photograph {number}", partial(_itself, instance)))
        return self._passed_by + len(self._aside)

    def _keep(self, state: State, done: int) -> None:
        # A restart begins with what was put aside.
        state.write(min([done, *(task.number - 1 for task in self._aside)]))

    def _of_orthanc(self, action: Callable[[], T]) -> T:
        try:
            return self._waits.repeat(action)
        except (InstanceRefused, KeyError, TypeError) as error:
            raise BridgeStopped(f"Orthanc's changes cannot be read: {described(error)}") from error

    def _do(self, task: _Task) -> None:
        """Score an instance. If results were stored, try again what was put aside before.

        A fault may be due to the instance, or to an archive or a service that refuses all of them. A result
        that is stored tells which: what fails again right afterwards is passed by. The rest waits for the
        next result, as the other side may have failed again.
        """
        stored = self._stored(task, again=False)
        while stored and self._aside:
            stored = self._stored(self._aside.pop(0), again=True)

    def _stored(self, task: _Task, *, again: bool) -> bool:
        """Score an instance, and return whether results were stored now."""
        try:
            instance = self._waits.repeat(task.find)
            return instance is not None and self._score(instance, task.name)
        except (Stopping, BridgeStopped):
            raise
        except Exception as error:
            # pydicom and highdicom raise errors of any type on damaged instances.
            if isinstance(error, InstanceFaulty) and not again:
                self._aside.append(task)
                logger.error("%s is put aside until another has been stored: %s", task.name, error)
            else:
                self._passed_by += 1
                logger.error("%s is passed by: %s", task.name, described(error))
            return False

    def _score(self, instance: Instance, name: str) -> bool:
        """Store the results that an instance lacks, and return whether it lacked any."""
        repeat = self._waits.repeat
        model = repeat(self._service.model)
        kinds = self._missing(instance, model)
        if not kinds:
            logger.info("%s: has results of %s %s already", name, *model)
            return False
        source = repeat(lambda: self._archive.fetch(instance))
        _check_identity(source, instance)
        answer = repeat(lambda: self._service.score(source, age_and_sex=self._age_and_sex))
        if answer.model != model:
            kinds = self._missing(instance, answer.model)
        uids = uids_of(instance, answer.model)
        results = [self._build(kind, answer, source, uids) for kind in kinds]
        if results:
            repeat(lambda: self._archive.store(instance.study, results))
        logger.info("%s: stored %s of %s %s", name, " and ".join(kinds) or "nothing", *answer.model)
        return bool(results)

    def _missing(self, instance: Instance, model: Model) -> Sequence[str]:
        """Return which results the archive lacks."""
        uids = uids_of(instance, model)
        wanted = {"report": uids.report, "capture": uids.capture}
        return [
            kind
            for kind, uid in wanted.items()
            if not self._waits.repeat(partial(self._archive.holds, instance, uid))
        ]

    def _build(self, kind: str, answer: Answer, source: Dataset, uids: Uids) -> Dataset:
        if kind == "report":
            return report_of(answer, source, uids, self._codes)
        return capture_of(answer, source, uids)


def _itself(instance: Instance) -> Instance:
    return instance


def _check_identity(source: Dataset, instance: Instance) -> None:
    found = (source.StudyInstanceUID, source.SeriesInstanceUID, source.SOPInstanceUID)
    if found != (instance.study, instance.series, instance.uid):
        raise InstanceRefused("the archive sent another instance than the one asked for")
    if not instance.is_of(patient_of(source)):
        raise InstanceRefused("the archive has it for several patients")


def described(error: BaseException) -> str:
    """Describe an error for the log: with its text if it is ours, as others may quote a DICOM file."""
    if isinstance(error, BridgeError):
        return str(error)
    trace, place = error.__traceback__, ""
    while trace is not None:
        place = f" in {Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__}{place}"
