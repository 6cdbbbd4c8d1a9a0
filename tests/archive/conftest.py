"""An instance, and what the service says of it."""

import base64
import copy
import io
import json
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread, uid
from pydicom.dataset import Dataset

from service.api.examples import MODEL_CARD, PREDICTION
from service.bridge.scoring import Answer, Model
from tests.dicom_files import dicom_file
from tests.synthetic import draw_lesion, encoded


@pytest.fixture
def source() -> Dataset:
    """A dermoscopic instance."""
    picture = draw_lesion(np.random.default_rng(1), width=64, height=48)
    changes: dict[str, Any] = {
        "SOPClassUID": uid.DermoscopicPhotographyImageStorage,
        "SOPInstanceUID": "1.2.826.0.1.3",
        "SeriesInstanceUID": "1.2.826.0.1.2",
        "StudyInstanceUID": "1.2.826.0.1.1",
        "InstanceNumber": 7,
        "Modality": "XC",
    }
    return dcmread(io.BytesIO(dicom_file(picture, **changes)))


@pytest.fixture
def answer() -> Answer:
    """The example of the OpenAPI document, with an overlay."""
    prediction = copy.deepcopy(PREDICTION)
    overlay = encoded(draw_lesion(np.random.default_rng(2), width=224, height=224), "PNG")
    prediction["gradcam"]["data"] = base64.b64encode(overlay).decode()
    names = {entry["code"]: entry["name"] for entry in MODEL_CARD["classes"]}
    return Answer(Model(**prediction["model"]), names, json.loads(json.dumps(prediction)), overlay)
