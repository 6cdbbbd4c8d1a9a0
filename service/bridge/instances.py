"""Which instances of an archive are scored, and how they are named."""

from typing import NamedTuple

from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

PHOTOGRAPHS = (uid.VLPhotographicImageStorage, uid.DermoscopicPhotographyImageStorage)
"""SOP classes that are scored. Secondary captures are not: the bridge stores its own overlays as such."""

READABLE = (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.JPEGBaseline8Bit)
"""Transfer syntaxes that the service reads."""


class Instance(NamedTuple):
    """The place of an instance.

    Attributes:
        study, series, uid: its UID and those of its series and study.
        patient: the PatientID that the archive's index has for it; None if unknown. An archive may hold an
            image twice, with the same UIDs and different patients.
    """

    study: str
    series: str
    uid: str
    patient: str | None = None

    def is_of(self, patient: str) -> bool:
        """Return whether the patient may be this one."""
        return self.patient is None or self.patient == patient.strip()


def patient_of(dataset: Dataset) -> str:
    """Return the PatientID of a file, without the blanks around it."""
    value = dataset.get("PatientID") or ""
    return ("\\".join(value) if isinstance(value, MultiValue) else str(value)).strip()
