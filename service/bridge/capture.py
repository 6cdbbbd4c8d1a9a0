"""The overlay as a secondary capture image."""

import io

import numpy as np
from highdicom.sc import SCImage
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset
from pydicom.uid import JPEGBaseline8Bit

from service.bridge.results import MANUFACTURER, RESEARCH_USE, SHORT_RESEARCH_USE, Uids, number_of, take_over
from service.bridge.scoring import Answer

_SERIES_NUMBER = 9002
_LINE = 16
_COPIED = (
    "Laterality", "ImageLaterality", "LossyImageCompression", "LossyImageCompressionRatio",
    "LossyImageCompressionMethod", "BurnedInAnnotation", "RecognizableVisualFeatures",
    "PatientIdentityRemoved", "DeidentificationMethod",
)  # fmt: skip
"""What the source says of itself holds for the overlay; what it does not say is not known."""


def capture_of(answer: Answer, source: Dataset, uids: Uids) -> Dataset:
    """Build the secondary capture of an overlay.

    Args:
        answer: of the service.
        source: the instance that was scored.
        uids: of the results.
    """
    label = answer.prediction["gradcam"]["label"]
    pixels = with_caption(
        answer.overlay,
        (SHORT_RESEARCH_USE, f"Evidence for class {label}", f"{answer.model.name} {answer.model.version}"),
    )
    image: Dataset = SCImage(
        pixels,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),
        study_instance_uid=source.StudyInstanceUID,
        series_instance_uid=uids.capture_series,
        series_number=_SERIES_NUMBER,
        sop_instance_uid=uids.capture,
        instance_number=number_of(source),
        manufacturer=MANUFACTURER,
        manufacturer_model_name=answer.model.name,
        software_versions=answer.model.version,
        series_description=f"dermaserve overlay ({SHORT_RESEARCH_USE.lower()})",
        content_qualification="RESEARCH",
    )
    image.PatientOrientation = ""  # highdicom requires one, but it is not known
    image.ImageComments = RESEARCH_USE
    image.DerivationDescription = (
        f"Class activation map of {answer.model.name} {answer.model.version} for class {label}, drawn over "
        "the image as the model read it. It shows neither a probability nor the outline of the lesion."
    )
    for keyword in _COPIED:
        if keyword in source:
            image[keyword] = source[keyword]
    if "LossyImageCompression" not in image and source.file_meta.TransferSyntaxUID == JPEGBaseline8Bit:
        image.LossyImageCompression = "01"
    if "ImageLaterality" not in image and "Laterality" not in image:
        image.Laterality = ""
    reference = Dataset()
    reference.ReferencedSOPClassUID = source.SOPClassUID
    reference.ReferencedSOPInstanceUID = source.SOPInstanceUID
    reference.SpatialLocationsPreserved = "NO"
    reference.PurposeOfReferenceCodeSequence = [
        CodedConcept("121322", "DCM", "Source image for image processing operation")
    ]
    image.SourceImageSequence = [reference]
    take_over(image, source)
    return image


def with_caption(png: bytes, lines: tuple[str, ...]) -> NDArray[np.uint8]:
    """Write lines of text below a picture, because a viewer may show nothing but the pixels.

    Returns:
        uint8 ``[height, width, 3]``.
    """
    with Image.open(io.BytesIO(png)) as picture:
        overlay = picture.convert("RGB")
    font = ImageFont.load_default(_LINE - 4)
    needed = max(int(font.getlength(line)) for line in lines) + 8
    canvas = Image.new("RGB", (max(overlay.width, needed), overlay.height + _LINE * len(lines) + 4))
    canvas.paste(overlay)
    draw = ImageDraw.Draw(canvas)
    for row, line in enumerate(lines):
        draw.text((4, overlay.height + 2 + row * _LINE), line, fill="white", font=font)
    return np.asarray(canvas)
