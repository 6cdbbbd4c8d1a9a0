"""Which instances of an archive are scored, and how they are named."""

from typing import NamedTuple

from pydicom import uid

PHOTOGRAPHS = (uid.VLPhotographicImageStorage, uid.DermoscopicPhotographyImageStorage)
"""SOP classes that are scored. Secondary captures are not: the bridge stores its own overlays as such."""

READABLE = (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.JPEGBaseline8Bit)
"""Transfer syntaxes that the service reads."""


class Instance(NamedTuple):
    """The place of an instance: its UID and those of its series and study."""

    study: str
    series: str
    uid: str
