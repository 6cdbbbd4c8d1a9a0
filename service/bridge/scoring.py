"""Asks the service about an instance: it gets the pixels and what describes them, nothing of the patient."""

import base64
import io
import re
from datetime import date
from typing import Any, NamedTuple

import requests
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID, JPEGBaseline8Bit

from models.manifest.metadata import MAX_AGE
from service.bridge.http import failures_of
from service.errors import URN, Away, BridgeStopped, InstanceRefused

_SIDE = "the service"

_PIXELS = (
    "SOPClassUID", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames",
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "BurnedInAnnotation",
    "ICCProfile", "PixelData",
)  # fmt: skip
"""The elements that are sent, by keyword."""

_START, _END, _SCAN, _COMMENT = b"\xff\xd8", 0xD9, 0xDA, 0xFE
_APPLICATION = range(0xE0, 0xF0)
_KEPT = (b"JFIF\0", b"ICC_PROFILE\0", b"Adobe")
"""The starts of the application segments that tell how to decode pixels. Others hold EXIF and the like."""

_MARKER = re.compile(rb"\xff+([^\0\xff])")
_AFTER_SCAN = re.compile(rb"\xff[^\0\xff\xd0-\xd7]")

_FORM_BYTES = 2000
"""More than all of a form but the file."""

_NO_UID = UID("2.25.0")

_SEXES = {"F": "female", "M": "male"}
_DAYS = {"D": 1.0, "W": 7.0, "M": 365.25 / 12, "Y": 365.25}


class Model(NamedTuple):
    """Name and version of the model that the service serves."""

    name: str
    version: str


class Answer(NamedTuple):
    """What the service says of one image.

    Attributes:
        model: that answered.
        names: of the model's classes, by code.
        prediction: the JSON of ``POST /predict``.
        overlay: the overlay, a PNG.
    """

    model: Model
    names: dict[str, str]
    prediction: dict[str, Any]
    overlay: bytes


class Service:
    """The service. Its methods raise the exceptions of ``failures_of``."""

    def __init__(self, url: str, session: requests.Session, timeout: float, key: str | None) -> None:
        """Connect with the first request.

        Args:
            url: of the service.
            session: opened for it.
            timeout: seconds to wait for a connection, and for data.
            key: its API key, None for none.
        """
        self._url = url
        self._session = session
        self._timeout = timeout
        self._headers = {} if key is None else {"X-API-Key": key}

    def model(self) -> Model:
        """Return the model that is being served.

        Raises:
            BridgeStopped: the service does not read DICOM files.
        """
        card = self._card()
        if "application/dicom" not in card["formats"]:
            raise BridgeStopped("the service reads no DICOM files; install its extra 'dicom'")
        return Model(card["name"], card["version"])

    def score(self, instance: Dataset, *, age_and_sex: bool) -> Answer:
        """Score the first frame of an instance.

        Args:
            instance: as fetched from the archive.
            age_and_sex: whether the patient's age and sex are sent, as far as the instance has them.

        Raises:
            InstanceRefused: the service cannot use it. The message has the type of the problem.
        """
        card = self._card()
        data = pixels_only(instance)
        # Not left to the service, which may close the connection before it is read whole, as if it were away.
        limit = card.get("request_limits", {}).get("max_body_bytes")
        if limit is not None and len(data) + _FORM_BYTES > limit:
            raise InstanceRefused(f"{_SIDE} accepts no body of {len(data)} bytes")
        files = {"file": ("instance.dcm", data, "application/dicom")}
        fields = metadata_of(instance) if age_and_sex else {}
        with failures_of(_SIDE, of_instance=True):
            response = self._session.post(
                f"{self._url}/predict",
                params={"gradcam": "true"},
                files=files,
                data=fields,
                headers=self._headers,
                timeout=self._timeout,
            )
            _check(response)
            prediction = response.json()
        model = Model(**prediction["model"])
        if Model(card["name"], card["version"]) != model:
            raise Away("the service has changed its model meanwhile")
        names = {entry["code"]: entry["name"] for entry in card["classes"]}
        return Answer(model, names, prediction, base64.b64decode(prediction["gradcam"]["data"]))

    def _card(self) -> Any:
        try:
            with failures_of(_SIDE):
                response = self._session.get(
                    f"{self._url}/model", headers=self._headers, timeout=self._timeout
                )
                response.raise_for_status()
                card = response.json()
            if {"name", "version", "formats", "classes"} <= card.keys():
                return card
        except (InstanceRefused, AttributeError):
            pass
        raise BridgeStopped("no dermaserve with GET /model is at the address of the service")


def _check(response: requests.Response) -> None:
    """Raise the exception of a problem about the image; leave other failures to ``failures_of``."""
    if response.status_code in (413, 415, 422):
        try:
            kind = str(response.json()["type"]).removeprefix(URN)
        except (ValueError, KeyError, TypeError):
            kind = "no problem document"
        raise InstanceRefused(f"{_SIDE} cannot use the image: {response.status_code}, {kind}")
    response.raise_for_status()


def pixels_only(instance: Dataset) -> bytes:
    """Return a DICOM file with the pixels of ``instance`` and what describes them. Its UIDs are replaced."""
    bare = Dataset()
    for keyword in _PIXELS:
        if keyword in instance:
            bare[keyword] = instance[keyword]
    if instance.file_meta.TransferSyntaxUID == JPEGBaseline8Bit:
        bare.PixelData = encapsulate([without_texts(frame) for frame in _frames(instance)])
        bare["PixelData"].VR = "OB"
        bare["PixelData"].is_undefined_length = True
    bare.file_meta = FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = instance.file_meta.TransferSyntaxUID
    bare.file_meta.MediaStorageSOPClassUID = instance.SOPClassUID
    bare.file_meta.MediaStorageSOPInstanceUID = bare.SOPInstanceUID = _NO_UID
    buffer = io.BytesIO()
    bare.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _frames(instance: Dataset) -> list[bytes]:
    try:
        count = int(instance.get("NumberOfFrames") or 1)
        return list(generate_frames(instance.PixelData, number_of_frames=count))
    except (AttributeError, TypeError, ValueError) as error:
        raise InstanceRefused("its frames cannot be found") from error


def without_texts(data: bytes) -> bytes:
    """Return a JPEG without comments, without application segments such as EXIF, and without what follows it.

    Raises:
        InstanceRefused: it is damaged. Damage of the compressed data itself is left to the service.
    """
    kept, at = [_START], len(_START)
    while data.startswith(_START) and (found := _MARKER.match(data, at)) is not None:
        marker, start = found[1][0], found.end()
        if marker == _END:
            return b"".join([*kept, b"\xff", found[1]])
        end = start + int.from_bytes(data[start : start + 2], "big")
        body = data[start + 2 : end]
        if marker != _COMMENT and (marker not in _APPLICATION or body.startswith(_KEPT)):
            kept += b"\xff", found[1], data[start:end]
        at = max(end, start + 2)
        if marker == _SCAN:
            after = _AFTER_SCAN.search(data, at)
            at, start = (after.start() if after else len(data)), at
            kept.append(data[start:at])
            if after is None:
                return b"".join(kept)
    raise InstanceRefused("its JPEG is damaged")


def metadata_of(instance: Dataset) -> dict[str, str]:
    """Return age in years and sex in the form in which the service takes them, as far as they are known."""
    found = {}
    age = _age(instance)
    if age is not None and 0 <= age <= MAX_AGE:
        found["age"] = str(age)
    sex = _SEXES.get(str(instance.get("PatientSex") or "").strip())
    if sex is not None:
        found["sex"] = sex
    return found


def _age(instance: Dataset) -> int | None:
    """Return the age in whole years: as stated, or on the day of the image."""
    text = str(instance.get("PatientAge") or "").strip()
    if len(text) == 4 and text[:3].isdecimal() and text[3] in _DAYS:
        return int(int(text[:3]) * _DAYS[text[3]] / _DAYS["Y"])
    born = _date(instance.get("PatientBirthDate"))
    days = (_date(instance.get(name)) for name in ("AcquisitionDate", "ContentDate", "StudyDate"))
    taken = next((day for day in days if day is not None), None)
    if born is None or taken is None:
        return None
    return taken.year - born.year - ((taken.month, taken.day) < (born.month, born.day))


def _date(value: object) -> date | None:
    text = str(value or "").strip()
    if len(text) != 8 or not text.isdecimal():
        return None
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return None
