"""What reports and captures have in common: their UIDs, and what they take over from the source."""

import uuid
from typing import NamedTuple

from pydicom.dataset import Dataset

from service.bridge.instances import Instance
from service.bridge.scoring import Model

RESEARCH_USE = (
    "Research use only. Not a medical device. Do not use as the sole criterion of a decision, nor to confirm "
    "or exclude a diagnosis."
)
SHORT_RESEARCH_USE = "RESEARCH USE ONLY"
MANUFACTURER = "dermaserve"

_PATIENT_AND_STUDY = (
    "SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex",
    "PatientAge", "OtherPatientIDsSequence", "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID",
    "StudyDescription", "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
_MAY_BE_EMPTY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip


class Uids(NamedTuple):
    """The UIDs of the results for one instance and one model version.

    They follow from those of the source and from the model, so that the same result never gets two.
    """

    report: str
    report_series: str
    capture: str
    capture_series: str
    lesion: str
    device: str


def uids_of(source: Instance, model: Model) -> Uids:
    """Derive the UIDs. Each source series and model version has a series of reports and one of captures."""

    def derived(kind: str, of: str) -> str:
        name = "/".join(("dermaserve", kind, model.name, model.version, of))
        return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, name).int}"

    return Uids(
        report=derived("report", source.uid),
        report_series=derived("reports", source.series),
        capture=derived("capture", source.uid),
        capture_series=derived("captures", source.series),
        lesion=f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'dermaserve/lesion/{source.uid}').int}",
        device=derived("device", ""),
    )


def reference_of(instance: Dataset) -> Dataset:
    """Return the identity of an instance, without data of the patient.

    highdicom checks and logs the values that it copies. It gets this, and ``take_over`` copies the rest.
    """
    reference = Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        setattr(reference, keyword, str(instance[keyword].value))
    for keyword in _MAY_BE_EMPTY:
        setattr(reference, keyword, "")
    return reference


def take_over(result: Dataset, source: Dataset) -> None:
    """Copy patient and study to ``result`` exactly as ``source`` has them, even if they are not valid."""
    for keyword in _PATIENT_AND_STUDY:
        if keyword in source:
            result[keyword] = source[keyword]
        elif keyword in _MAY_BE_EMPTY:
            setattr(result, keyword, "")


def number_of(source: Dataset) -> int:
    """Return the source's number within its series, 1 without one."""
    try:
        return max(1, int(source.get("InstanceNumber") or 1))
    except ValueError:
        return 1
