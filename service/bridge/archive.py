"""The archive, by DICOMweb: search (QIDO-RS), fetch (WADO-RS) and store (STOW-RS)."""

from collections.abc import Sequence
from typing import Any

import requests
from dicomweb_client import DICOMwebClient
from pydicom import uid
from pydicom.dataset import Dataset

from service.bridge.http import failures_of
from service.bridge.instances import PHOTOGRAPHS, READABLE, Instance
from service.errors import Away, BridgeStopped, InstanceRefused

_SIDE = "the archive"
_DICOM = "application/dicom"
_PAGE = 500
_OUT_OF_RESOURCES = range(0xA700, 0xA800)
_DUPLICATE = 0x0111


class Archive:
    """A DICOMweb server. All methods raise the exceptions of ``failures_of``."""

    def __init__(self, url: str, session: requests.Session, timeout: float) -> None:
        """Connect with the first request.

        Args:
            url: of its DICOMweb services.
            session: may carry a password.
            timeout: seconds to wait for a connection, and for data.
        """
        self._client = DICOMwebClient(url, session, timeout=timeout, chunk_size=2**30, permissive_uid=True)
        self._client.set_http_retry_params(retry=False)  # service.bridge.waits repeats

    def check(self) -> None:
        """Search for nothing in particular.

        Raises:
            BridgeStopped: there is no DICOMweb search at the address.
        """
        try:
            with failures_of(_SIDE):
                self._client.search_for_studies(limit=1)
        except InstanceRefused as refused:
            raise BridgeStopped(f"{refused}; there may be no DICOMweb server at its address") from refused

    def photographs(self, study: str) -> list[Instance]:
        """Return the photographs of a study, in the order of their UIDs."""
        found: dict[tuple[str, str], dict[str, Any]] = {}
        offset = 0
        while True:
            with failures_of(_SIDE):
                page = self._client.search_for_instances(
                    study,
                    fields=["SOPClassUID", "SeriesInstanceUID", "PatientID"],
                    offset=offset,
                    limit=_PAGE,
                )
            offset += len(page)
            rows = {(_text(row, _UID), _text(row, _PATIENT)): row for row in page}
            if not rows.keys() - found.keys():  # also ends with a server that ignores the offset
                break
            found |= rows
        return [
            Instance(study, _text(row, _SERIES), own, patient.strip() if _PATIENT in row else None)
            for (own, patient), row in sorted(found.items())
            if _text(row, _SOP_CLASS) in PHOTOGRAPHS
        ]

    def holds(self, source: Instance, result: str) -> bool:
        """Return whether the study of ``source`` has an instance with the UID ``result``.

        Raises:
            InstanceRefused: it has it, but of another patient than ``source``.
        """
        with failures_of(_SIDE):
            found = self._client.search_for_instances(
                source.study, fields=["PatientID"], search_filters={"SOPInstanceUID": result}
            )
        # Some servers ignore filters that they do not know.
        found = [row for row in found if _text(row, _UID) == result]
        if not all(source.is_of(_text(row, _PATIENT)) for row in found if _PATIENT in row):
            raise InstanceRefused("its results are those of another patient")
        return bool(found)

    def fetch(self, instance: Instance) -> Dataset:
        """Return an instance as it was stored, or uncompressed if the service cannot read its encoding.

        Raises:
            InstanceRefused: it is gone, or cannot be read.
        """
        found = self._fetch(instance, "*")
        if found.file_meta.TransferSyntaxUID in READABLE:
            return found
        try:
            return self._fetch(instance, uid.ExplicitVRLittleEndian)
        except InstanceRefused as refused:
            raise InstanceRefused("the archive cannot decompress it for the service") from refused

    def _fetch(self, instance: Instance, syntax: str) -> Dataset:
        with failures_of(_SIDE, of_instance=True):
            found: Dataset = self._client.retrieve_instance(
                instance.study, instance.series, instance.uid, media_types=((_DICOM, syntax),)
            )
        return found

    def store(self, study: str, results: Sequence[Dataset]) -> None:
        """Store new instances in a study.

        Raises:
            Away: the archive did not store all of them. They may be sent again: their UIDs stay the same.
        """
        with failures_of(_SIDE, of_instance=True):
            answer = self._client.store_instances(results, study)
        reasons = [int(item.get("FailureReason", 0)) for item in answer.get("FailedSOPSequence", ())]
        reasons = [reason for reason in reasons if reason != _DUPLICATE]
        if reasons:
            full = any(reason in _OUT_OF_RESOURCES for reason in reasons)
            raise Away(f"the archive did not store a result (reason {reasons[0]:04X})", fault=not full)


_UID, _SERIES, _SOP_CLASS, _PATIENT = "00080018", "0020000E", "00080016", "00100020"


def _text(row: dict[str, Any], tag: str) -> str:
    """Return the first value of an element in the DICOM JSON model; empty if there is none."""
    values = row.get(tag, {}).get("Value") or [""]
    return str(values[0])
