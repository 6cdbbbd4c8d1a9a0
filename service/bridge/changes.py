"""The changes of an Orthanc, and how far they are done."""

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import requests

from service.bridge.http import failures_of
from service.bridge.instances import PHOTOGRAPHS, Instance
from service.errors import BridgeStopped, SettingsError
from service.settings import BRIDGE_PREFIX

_SIDE = "Orthanc"
_PAGE = 100


class Change(NamedTuple):
    """A new instance.

    Attributes:
        number: of the change; later changes have higher numbers.
        resource: Orthanc's id of the instance.
    """

    number: int
    resource: str


class Changes(NamedTuple):
    """Some of the changes after a number.

    Attributes:
        new: new instances, in order.
        last: number of the last change that was looked at; if there was none, of the last one ever.
        done: whether there are no more now.
    """

    new: Sequence[Change]
    last: int
    done: bool


class Orthanc:
    """Orthanc's own REST API. Its methods raise the exceptions of ``failures_of``."""

    def __init__(self, url: str, session: requests.Session, timeout: float) -> None:
        """Connect with the first request.

        Args:
            url: of Orthanc.
            session: may carry a password.
            timeout: seconds to wait for a connection, and for data.
        """
        self._url = url
        self._session = session
        self._timeout = timeout

    def last_change(self) -> int:
        """Return the number of the last change; 0 if there was none."""
        return int(self._get("/changes?last")["Last"])

    def changes_after(self, number: int) -> Changes:
        """Return the next changes."""
        page = self._get(f"/changes?since={number}&limit={_PAGE}")
        new = [
            Change(int(change["Seq"]), str(change["ID"]))
            for change in page["Changes"]
            if change["ChangeType"] == "NewInstance"
        ]
        return Changes(new, int(page["Last"]), bool(page["Done"]))

    def photograph(self, change: Change) -> Instance | None:
        """Return the place of the new instance; None if it is no photograph, or was deleted since.

        Orthanc's own ids differ between the patients of the same UIDs, and DICOMweb's addresses do not. So
        the place has the patient.
        """
        path = f"/instances/{change.resource}"
        with failures_of(_SIDE):
            answer = self._session.get(self._url + path, timeout=self._timeout)
            if answer.status_code == 404:
                return None
            answer.raise_for_status()
            instance = answer.json()
            kind = self._ask(f"{path}/metadata/SopClassUid").text.strip()
        if kind not in PHOTOGRAPHS:
            return None
        series = self._get(f"/series/{instance['ParentSeries']}")
        study = self._get(f"/studies/{series['ParentStudy']}")
        return Instance(
            study["MainDicomTags"]["StudyInstanceUID"],
            series["MainDicomTags"]["SeriesInstanceUID"],
            instance["MainDicomTags"]["SOPInstanceUID"],
            str(study["PatientMainDicomTags"].get("PatientID", "")).strip(),
        )

    def _get(self, path: str) -> Any:
        with failures_of(_SIDE):
            return self._ask(path).json()

    def _ask(self, path: str) -> requests.Response:
        answer = self._session.get(self._url + path, timeout=self._timeout)
        answer.raise_for_status()
        return answer


class State:
    """A file with the number of the last change that is done. It holds nothing else."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other bridges from using the file, by a lock on another file beside it.

        Raises:
            SettingsError: a bridge uses it already, or the other file cannot be written.
        """
        variable = f"{BRIDGE_PREFIX}STATE_FILE"
        path = self._path.with_name(f"{self._path.name}.lock")
        try:
            file = path.open("a")
        except OSError as error:
            raise SettingsError(
                [f"{variable}: expected a folder that can be written, got {path} ({error.strerror})"]
            ) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise SettingsError(
                    [f"{variable}: expected a file that no other bridge uses, got {self._path}"]
                ) from None
            yield

    def read(self) -> int | None:
        """Return the number, or None if there is no file.

        Raises:
            SettingsError: the file cannot be read, or holds something else.
        """
        variable = f"{BRIDGE_PREFIX}STATE_FILE"
        try:
            found = json.loads(self._path.read_bytes())
            if found.keys() == {"change"} and type(found["change"]) is int and found["change"] >= 0:
                return int(found["change"])
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SettingsError(
                [f"{variable}: expected a file that can be read, got {self._path} ({error.strerror})"]
            ) from error
        except (ValueError, AttributeError):
            pass
        raise SettingsError(
            [f'{variable}: expected a file such as {{"change": 12}}, got something else in {self._path}']
        )

    def write(self, number: int) -> None:
        """Replace the number, so that a crash leaves the old one or the new one.

        Raises:
            BridgeStopped: the file cannot be written.
        """
        draft = self._path.with_name(f"{self._path.name}.new")
        try:
            with draft.open("w") as file:
                json.dump({"change": number}, file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)
        except OSError as error:
            raise BridgeStopped(f"{self._path} cannot be written ({error.strerror})") from error
