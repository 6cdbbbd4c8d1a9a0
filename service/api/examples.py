"""Example responses for the OpenAPI document. A test validates each against its schema."""

from typing import Any

from models.manifest.metadata import SITES
from models.preprocess import ACCEPTED_FORMATS

REQUEST_ID = "01K6X5V7Q2M3N4P5R6S7T8V9WA"

_MODEL = {"name": "ham10000-ensemble", "version": "1.3.0"}

ALIVE = {"status": "alive"}

READY = {"status": "ready", "model": _MODEL, "provider": "CPUExecutionProvider"}

RELOADED = {"old": _MODEL | {"version": "1.0.0"}, "new": _MODEL}

METRICS = """\
# TYPE dermaserve_predictions_total counter
dermaserve_predictions_total{flag="benign",label="nv"} 41.0
dermaserve_predictions_total{flag="malignant",label="mel"} 7.0
"""

_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="

PREDICTION: dict[str, Any] = {
    "request_id": REQUEST_ID,
    "model": _MODEL,
    "probabilities": {
        "akiec": 0.01, "bcc": 0.02, "bkl": 0.05, "df": 0.0, "mel": 0.62, "nv": 0.29, "vasc": 0.01
    },
    "prediction": {"label": "mel", "name": "Melanoma", "probability": 0.62},
    "malignancy": {"flag": "malignant", "probability": 0.65, "threshold": 0.0503},
    "prediction_set": {"coverage": 0.9, "labels": ["mel", "nv"]},
    "uncertainty": {"entropy": 0.50, "disagreement": 0.08, "ood_score": 0.04, "ood_threshold": 0.09},
    "warnings": [{"code": "blurred", "detail": "The image looks blurred. If you can, take it again."}],
    "metadata_used": {"age": 55, "site": "back"},
    # Not null, although that is the default: FastAPI removes nulls from the document.
    "gradcam": {"label": "mel", "media_type": "image/png", "data": _PIXEL},
}  # fmt: skip


def problem(
    kind: str, title: str, status: int, detail: str, errors: list[dict[str, str]] | None = None
) -> dict[str, Any]:
    """Build a problem document (RFC 9457). ``kind`` is its full ``type``."""
    document = {"type": kind, "title": title, "status": status, "detail": detail, "request_id": REQUEST_ID}
    return document | ({"errors": errors} if errors else {})


BATCH = {
    "results": [
        PREDICTION | {"kind": "prediction", "index": 0, "filename": "lesion.jpg", "gradcam": None},
        problem(
            "urn:dermaserve:problem:corrupt-image",
            "Image is truncated or damaged",
            422,
            "The JPEG image is truncated or damaged and cannot be decoded.",
        )
        | {"kind": "problem", "index": 1, "filename": None},
    ]
}


def _interval(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high}


def _class(code: str, name: str, malignant: bool) -> dict[str, str | bool]:
    return {"code": code, "name": name, "malignant": malignant}


_CLASSES = (
    ("akiec", "Actinic keratosis / Bowen's disease", True),
    ("bcc", "Basal cell carcinoma", True),
    ("bkl", "Benign keratosis-like lesion", False),
    ("df", "Dermatofibroma", False),
    ("mel", "Melanoma", True),
    ("nv", "Melanocytic nevus", False),
    ("vasc", "Vascular lesion", False),
)
_CODES = tuple(code for code, _, _ in _CLASSES)

MODEL_CARD: dict[str, Any] = {
    **_MODEL,
    "created": "2026-11-30",
    "git_revision": "98e7139f8cb59a0c6bb79a94aa84135fc31137c3",
    "provider": "CPUExecutionProvider",
    "classes": [_class(*line) for line in _CLASSES],
    "malignant": [code for code, _, malignant in _CLASSES if malignant],
    "input": {"name": "image", "height": 224, "width": 224, "color": "rgb", "crop": "centre"},
    "metadata": {
        "images": 1496,
        "metrics": {
            "balanced_accuracy": {"value": 0.78, "low": 0.737, "high": 0.822},
            "accuracy_rule": {"value": 0.762, "low": 0.736, "high": 0.789},
            "malignancy_sensitivity": {"value": 0.956, "low": 0.921, "high": 0.983},
            "malignancy_specificity": {"value": 0.62, "low": 0.586, "high": 0.654},
        },
        "image_only": {
            "balanced_accuracy": {"value": 0.775, "low": 0.733, "high": 0.817},
            "accuracy_rule": {"value": 0.744, "low": 0.718, "high": 0.77},
            "malignancy_sensitivity": {"value": 0.962, "low": 0.931, "high": 0.989},
            "malignancy_specificity": {"value": 0.588, "low": 0.554, "high": 0.622},
        },
        "name": "metadata",
        "ages": [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0],
        "sexes": ["female", "male"],
        "sites": list(SITES),
        "weight": 0.4,
        "threshold": 0.0463,
        "target_sensitivity": 0.97,
        "sensitivity": _interval(0.973, 0.948, 0.993),
        "specificity": _interval(0.636, 0.602, 0.671),
        "prediction_sets": {
            "coverage": 0.9,
            "thresholds": dict(
                zip(_CODES, (0.0392, 0.225, 0.199, 0.00579, 0.0667, 1.0, 0.000243), strict=True)
            ),
            "measured": {"overall": _interval(0.930, 0.914, 0.946)},
            "mean_size": _interval(1.561, 1.517, 1.609),
        },
        "under_40": {
            "images": 286,
            "metrics": {
                "balanced_accuracy": {"value": 0.805, "low": 0.75, "high": 0.853},
                "accuracy_rule": {"value": 0.776, "low": 0.717, "high": 0.834},
                "malignancy_sensitivity": {"value": 0.917, "low": 0.8, "high": 1.0},
                "malignancy_specificity": {"value": 0.588, "low": 0.522, "high": 0.664},
            },
            "image_only": {
                "balanced_accuracy": {"value": 0.797, "low": 0.74, "high": 0.849},
                "accuracy_rule": {"value": 0.699, "low": 0.628, "high": 0.767},
                "malignancy_sensitivity": {"value": 0.917, "low": 0.8, "high": 1.0},
                "malignancy_specificity": {"value": 0.473, "low": 0.404, "high": 0.553},
            },
        },
    },
    "members": [
        {"name": "mobilenet_v2", "weight": 0.5, "temperature": 1.06, "parameters": 2266951, "classes": []},
        {"name": "efficientnet_b1", "weight": 0.5, "temperature": 1.15, "parameters": 6584206, "classes": []},
    ],
    "combination": "mean",
    "decision_rule": {
        "tau": 1.0,
        "prior": dict(zip(_CODES, (0.0327, 0.0515, 0.109, 0.0113, 0.111, 0.67, 0.0141), strict=True)),
    },
    "operating_point": {
        "threshold": 0.0503,
        "target_sensitivity": 0.97,
        "sensitivity": _interval(0.973, 0.948, 0.993),
        "specificity": _interval(0.601, 0.568, 0.636),
    },
    "predictive_values": [
        {"prevalence": 0.195, "positive": 0.361, "negative": 0.985},
        {"prevalence": 0.050, "positive": 0.109, "negative": 0.997},
    ],
    "prediction_sets": {
        "coverage": 0.9,
        "thresholds": dict(zip(_CODES, (0.0377, 0.192, 0.157, 0.00513, 0.0735, 1.0, 0.000265), strict=True)),
        "measured": {"overall": _interval(0.935, 0.919, 0.950), "mel": _interval(0.904, 0.840, 0.959)},
        "mean_size": _interval(1.637, 1.587, 1.686),
    },
    "out_of_distribution": {
        "method": "PCA residual of pooled features",
        "threshold": 0.0685,
        "quantile": 0.99,
    },
    "disagreement": {"threshold": 0.291, "quantile": 0.99},
    "quality": {
        "sharpness_min": 9.92,
        "brightness_min": 90.5,
        "brightness_max": 211.0,
        "contrast_min": 8.23,
        "clipped_max": 0.01,
        "quantile": 0.9975,
    },
    "metrics": {
        "accuracy_rule": _interval(0.745, 0.719, 0.773),
        "balanced_accuracy": _interval(0.776, 0.735, 0.817),
        "malignancy_prevalence": _interval(0.195, 0.185, 0.205),
        "malignancy_sensitivity": _interval(0.962, 0.929, 0.989),
        "malignancy_specificity": _interval(0.587, 0.555, 0.623),
    },
    "subgroups": [
        {
            "factor": "age",
            "value": "40-59",
            "images": 652,
            "metrics": {"balanced_accuracy": _interval(0.844, 0.776, 0.903)},
        }
    ],
    "drift_reference": {
        "images": 1498,
        "labels": dict(zip(_CODES, (0.0307, 0.0641, 0.146, 0.0207, 0.186, 0.533, 0.02), strict=True)),
        "confidence": [0.0, 0.0, 0.00267, 0.0247, 0.0501, 0.0754, 0.0821, 0.0794, 0.146, 0.539],
    },
    "licence": "CC BY-NC 4.0",
    "citation": "Tschandl P., Rosendahl C., Kittler H. The HAM10000 dataset. Sci. Data 5, 180161 (2018)",
    "intended_use": "Research and education on dermatoscopic images. Not a medical device.",
    "limits": ["Only the classes of its data: anything else is still forced into one of them."],
    "formats": list(ACCEPTED_FORMATS.values()),
    "request_limits": {
        "max_body_bytes": 20_000_000,
        "max_pixels": 64_000_000,
        "max_images": 32,
        "timeout_seconds": 30.0,
    },
}
