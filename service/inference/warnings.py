"""Warnings about an image and its prediction.

The limits come from the bundle, which fits them on training and validation data. The texts are for
clinicians: they say what was found and what to do, without figures that only developers understand.
"""

from typing import NamedTuple

from models.bundle import Manifest
from models.preprocess import Decoded
from models.quality import Quality
from service.inference.decision import Decision, Uncertainty


class PredictionWarning(NamedTuple):
    """A stable code and a text for people."""

    code: str
    detail: str


MULTIPLE_FRAMES = PredictionWarning(
    "multiple_frames", "The file holds several frames or pages. Only the first one was used."
)
BURNED_IN = PredictionWarning(
    "burned_in_annotation",
    "The file says that text is burned into the image. The text may change the prediction. It may also name "
    "the patient to anyone who sees the image or its overlay.",
)
PROFILE_IGNORED = PredictionWarning(
    "color_profile_ignored",
    "The file has a colour profile that is damaged or belongs to another kind of image. The colours were "
    "read without it and may be wrong.",
)
BLURRED = PredictionWarning("blurred", "The image looks blurred. If you can, take it again.")
UNDER_EXPOSED = PredictionWarning(
    "under_exposed",
    "The image is darker than most training images. If you can, take it again with more light.",
)
OVER_EXPOSED = PredictionWarning(
    "over_exposed",
    "The image is brighter than most training images, or has overexposed spots such as reflections. "
    "If you can, take it again with less light.",
)
LOW_CONTRAST = PredictionWarning(
    "low_contrast", "The image has little contrast. The model may miss structures in it."
)
OUT_OF_DISTRIBUTION = PredictionWarning(
    "out_of_distribution",
    "The image looks unlike those that the model was trained on. Do not rely on this answer.",
)
MEMBERS_DISAGREE = PredictionWarning(
    "members_disagree",
    "The networks of this model disagree about the image more than usual. The answer is uncertain.",
)
EMPTY_HEATMAP = PredictionWarning(
    "empty_heatmap", "The model found no evidence for this class in the image. The overlay marks nothing."
)
OVERLAY_OMITTED = PredictionWarning(
    "overlay_omitted",
    "The server had no memory left for the overlay of this image. Ask for it again, in a smaller batch or "
    "alone.",
)

FLAG_LABEL_DISAGREE = "flag_label_disagree"

CODES = (
    "low_resolution",
    FLAG_LABEL_DISAGREE,
    *(
        warning.code
        for warning in (
            MULTIPLE_FRAMES,
            BURNED_IN,
            PROFILE_IGNORED,
            BLURRED,
            UNDER_EXPOSED,
            OVER_EXPOSED,
            LOW_CONTRAST,
            OUT_OF_DISTRIBUTION,
            MEMBERS_DISAGREE,
            EMPTY_HEATMAP,
            OVERLAY_OMITTED,
        )
    ),
)
"""All warning codes."""


def warnings_of(
    manifest: Manifest, image: Decoded, quality: Quality, decision: Decision, uncertainty: Uncertainty
) -> tuple[PredictionWarning, ...]:
    """Warnings about the file, the image quality and the prediction of one image."""
    limits = manifest.quality
    checks = [
        (image.several_frames, MULTIPLE_FRAMES),
        (image.burned_in, BURNED_IN),
        (image.profile_ignored, PROFILE_IGNORED),
        (quality.sharpness < limits.sharpness_min, BLURRED),
        (quality.brightness < limits.brightness_min, UNDER_EXPOSED),
        (
            quality.brightness > limits.brightness_max or quality.clipped > limits.clipped_max,
            OVER_EXPOSED,
        ),
        (quality.contrast < limits.contrast_min, LOW_CONTRAST),
        (uncertainty.ood_score > manifest.out_of_distribution.threshold, OUT_OF_DISTRIBUTION),
        (uncertainty.disagreement > manifest.disagreement.threshold, MEMBERS_DISAGREE),
    ]
    return (
        *_low_resolution(manifest, image),
        *(warning for failed, warning in checks if failed),
        *_flag_label_disagree(manifest, decision),
    )


def _low_resolution(manifest: Manifest, image: Decoded) -> tuple[PredictionWarning, ...]:
    spec = manifest.input
    if image.width >= spec.width and image.height >= spec.height:
        return ()
    detail = (
        f"The image is {image.width} x {image.height} pixels, smaller than the "
        f"{spec.width} x {spec.height} that the model reads. It was enlarged."
    )
    return (PredictionWarning("low_resolution", detail),)


def _flag_label_disagree(manifest: Manifest, decision: Decision) -> tuple[PredictionWarning, ...]:
    picked = next(c for c in manifest.classes if c.code == decision.label)
    if picked.malignant == (decision.flag == "malignant"):
        return ()
    if decision.flag == "malignant":
        kind = "benign"
        reason = (
            "is raised because the malignant classes together reach its threshold, which is low on purpose. "
            "Go by the flag."
        )
    else:
        kind = "malignant"
        reason = (
            "is not raised because the malignant classes together stay below its threshold. "
            "Do not take the missing flag as reassurance."
        )
    detail = (
        "The flag and the label disagree. The label is the single class that the model picks, here "
        f"{picked.name}, which is {kind}. The flag {reason}"
    )
    return (PredictionWarning(FLAG_LABEL_DISAGREE, detail),)
