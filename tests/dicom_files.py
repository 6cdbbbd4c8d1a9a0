"""DICOM files of drawn lesions, full of made-up names: whatever leaks of them is found by these."""

import io
from typing import Any

import numpy as np
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

SECRETS = ("Quixote", "LaMancha", "19470229", "HOSP-4711", "Sancho")
"""In every file: a patient's name, origin, birth date and number, and a physician."""


def dicom_file(
    picture: Image.Image | None = None,
    *,
    frames: int = 1,
    jpeg: bytes | None = None,
    syntax: str = uid.ExplicitVRLittleEndian,
    pixels: bytes | None = None,
    **changes: Any,
) -> bytes:
    """A DICOM file with the pixels of ``picture``.

    Args:
        picture: RGB or L; stored uncompressed unless ``jpeg`` is given.
        frames: how often its pixels are repeated.
        jpeg: stored instead, encapsulated.
        syntax: transfer syntax, JPEG baseline where ``jpeg`` is given.
        pixels: stored instead of the picture's.
        **changes: elements by keyword, such as ``PhotometricInterpretation``; None leaves one out.
    """
    picture = picture or Image.new("RGB", (8, 8))
    samples = len(picture.getbands())
    dataset = Dataset()
    fields: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 100",
        "SOPClassUID": uid.VLPhotographicImageStorage,
        "SOPInstanceUID": "1.2.3",
        "PatientName": "Quixote^Don",
        "PatientID": "HOSP-4711",
        "PatientBirthDate": "19470229",
        "PatientAddress": "LaMancha",
        "ReferringPhysicianName": "Sancho",
        "SamplesPerPixel": samples,
        "PhotometricInterpretation": "RGB" if samples == 3 else "MONOCHROME2",
        "Rows": picture.height,
        "Columns": picture.width,
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
    }
    if samples == 3:
        fields["PlanarConfiguration"] = 0
    if frames > 1:
        fields["NumberOfFrames"] = frames
    for keyword, value in (fields | changes).items():
        if value is not None:
            setattr(dataset, keyword, value)
    nested = Dataset()
    nested.PatientName = "Quixote^Son"
    dataset.ReferencedStudySequence = [nested]
    dataset["ReferencedStudySequence"].is_undefined_length = True
    if jpeg is not None:
        syntax = uid.JPEGBaseline8Bit
        dataset.PixelData = encapsulate([jpeg] * frames)
    else:
        dataset.PixelData = pixels if pixels is not None else np.asarray(picture).tobytes() * frames
    dataset["PixelData"].VR = "OB"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.UID(syntax)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", "1.2")
    dataset.file_meta.MediaStorageSOPInstanceUID = uid.UID(dataset.get("SOPInstanceUID", "1.2.3"))
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
