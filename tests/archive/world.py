"""An archive, a service and a clock in memory, for the tests of the bridge."""

import copy
import threading
from collections.abc import Sequence

from pydicom.dataset import Dataset

from service.bridge.changes import Change, Changes
from service.bridge.instances import Instance, patient_of
from service.bridge.results import uids_of
from service.bridge.scoring import Answer, Model
from service.bridge.waits import Waits
from service.errors import InstanceRefused

STUDY = "1.2.826.0.1.1"


class World:
    """An archive with Orthanc's changes and a service, in memory.

    Attributes:
        failures: raised by the next calls of a method, by its name.
        calls: names of the methods called, in order.
    """

    def __init__(self, source: Dataset, answer: Answer, count: int) -> None:
        self.sources = [self._copy(source, number) for number in range(count)]
        self.answer = answer
        self.held: dict[str, Dataset] = {}
        self.failures: dict[str, list[Exception]] = {}
        self.calls: list[str] = []
        self.stop = threading.Event()

    @staticmethod
    def _copy(source: Dataset, number: int) -> Dataset:
        found = copy.deepcopy(source)
        found.SOPInstanceUID = f"1.2.826.0.1.3.{number}"
        return found

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if self.failures.get(name):
            raise self.failures[name].pop(0)

    # the archive
    def check(self) -> None:
        self._call("check")

    def photographs(self, study: str) -> list[Instance]:
        self._call("photographs")
        return [self.place(number) for number in range(len(self.sources))]

    def holds(self, source: Instance, result: str) -> bool:
        self._call("holds")
        if result in self.held and not source.is_of(patient_of(self.held[result])):
            raise InstanceRefused("its results are those of another patient")
        return result in self.held

    def fetch(self, instance: Instance) -> Dataset:
        self._call("fetch")
        (found,) = (source for source in self.sources if instance.uid == source.SOPInstanceUID)
        return found

    def store(self, study: str, results: Sequence[Dataset]) -> None:
        assert study == STUDY
        self._call("store")
        for result in results:
            assert result.SOPInstanceUID not in self.held, "stored twice"
            self.held[result.SOPInstanceUID] = result
        self._call("stored")  # may fail after all is stored

    # Orthanc
    def last_change(self) -> int:
        self._call("last_change")
        return 2 * len(self.sources)

    def changes_after(self, number: int) -> Changes:
        """Instance ``n`` is change ``2 n + 1``. When there are no more, the bridge is stopped."""
        self._call("changes_after")
        page = [Change(n, str((n - 1) // 2)) for n in range(1, self.last_change(), 2) if n > number][:2]
        last = page[-1].number + 1 if page else self.last_change()
        if number == last:
            self.stop.set()
        return Changes(page, last, not page)

    def photograph(self, change: Change) -> Instance | None:
        self._call("photograph")
        return self.place(int(change.resource))

    # the service
    def model(self) -> Model:
        self._call("model")
        return self.answer.model

    def score(self, instance: Dataset, *, age_and_sex: bool) -> Answer:
        self._call("score")
        return self.answer

    def place(self, number: int) -> Instance:
        source = self.sources[number]
        return Instance(STUDY, "1.2.826.0.1.2", str(source.SOPInstanceUID), patient_of(source))

    def expected(self) -> set[str]:
        uids = [uids_of(self.place(number), self.answer.model) for number in range(len(self.sources))]
        return {uid for found in uids for uid in (found.report, found.capture)}


class Hurried(Waits):
    """Does not wait, but stops."""

    def __init__(self, stop: threading.Event) -> None:
        super().__init__(1, stop)

    def pause(self, seconds: float) -> None:
        super().pause(0)
