"""Which instances of an archive are scored, and how they are named."""

from typing import NamedTuple

from pydicom import uid

PHOTOGRAPHS = (uid.VLPhotographicImageStorage, uid.DermoscopicPhotographyImageStorage)
"""SOP classes that are scored. Secondary captures are not: the bridge stores its own overlays as such."""

READABLE = (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.JPEGBaseline8Bit)
"""Transfer syntaxes that the service reads."""


class Instance(NamedTuple):
    """The place of an instance: its UID and those of its series and study.

    Attributes:
        patient: PatientID as the archive lists it; empty if that is not known. An image that was sent again
            with another PatientID may be in the archive twice, with the same UIDs.
    """

    study: str
    series: str
    uid: str
    patient: str = ""
