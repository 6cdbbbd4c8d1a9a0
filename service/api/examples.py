"""Example responses for the OpenAPI document. A test validates each against its schema."""

from typing import Any

from models.preprocess import ACCEPTED_FORMATS

REQUEST_ID = "01K6X5V7Q2M3N4P5R6S7T8V9WA"

_MODEL = {"name": "ham10000-ensemble", "version": "1.2.1"}

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
    "malignancy": {"flag": "malignant", "probability": 0.65, "threshold": 0.0471},
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
    "created": "2026-11-21",
    "git_revision": "49933e8605d1b06ef7e4d2a7b843652bb889c6db",
    "provider": "CPUExecutionProvider",
    "classes": [_class(*line) for line in _CLASSES],
    "malignant": [code for code, _, malignant in _CLASSES if malignant],
    "input": {"name": "image", "height": 224, "width": 224, "color": "rgb", "crop": "centre"},
    "members": [
        {"name": "mobilenet_v2", "weight": 0.6, "temperature": 1.02, "parameters": 2266951, "classes": []},
        {"name": "efficientnet_b1", "weight": 0.4, "temperature": 1.20, "parameters": 6584206, "classes": []},
    ],
    "combination": "mean",
    "decision_rule": {
        "tau": 0.75,
        "prior": dict(zip(_CODES, (0.033, 0.052, 0.109, 0.011, 0.111, 0.670, 0.014), strict=True)),
    },
    "operating_point": {
        "threshold": 0.0471,
        "target_sensitivity": 0.97,
        "sensitivity": _interval(0.973, 0.949, 0.993),
        "specificity": _interval(0.582, 0.550, 0.617),
    },
    "predictive_values": [
        {"prevalence": 0.195, "positive": 0.353, "negative": 0.987},
        {"prevalence": 0.05, "positive": 0.106, "negative": 0.997},
    ],
    "prediction_sets": {
        "coverage": 0.9,
        "thresholds": dict(zip(_CODES, (0.009, 0.097, 0.201, 0.009, 0.073, 1.0, 0.001), strict=True)),
        "measured": {"overall": _interval(0.926, 0.909, 0.943), "mel": _interval(0.880, 0.805, 0.943)},
        "mean_size": _interval(1.71, 1.67, 1.76),
    },
    "out_of_distribution": {
        "method": "PCA residual of pooled features",
        "threshold": 0.088,
        "quantile": 0.99,
    },
    "disagreement": {"threshold": 0.317, "quantile": 0.99},
    "quality": {
        "sharpness_min": 9.92,
        "brightness_min": 90.5,
        "brightness_max": 210.6,
        "contrast_min": 8.23,
        "clipped_max": 0.01,
        "quantile": 0.9975,
    },
    "metrics": {
        "balanced_accuracy": _interval(0.741, 0.696, 0.786),
        "malignancy_prevalence": _interval(0.195, 0.185, 0.205),
        "malignancy_sensitivity": _interval(0.969, 0.940, 0.993),
        "malignancy_specificity": _interval(0.569, 0.535, 0.606),
    },
    "subgroups": [
        {
            "factor": "age",
            "value": "40-59",
            "images": 652,
            "metrics": {"balanced_accuracy": _interval(0.780, 0.701, 0.852)},
        }
    ],
    "drift_reference": {
        "images": 1498,
        "labels": dict(zip(_CODES, (0.022, 0.051, 0.156, 0.019, 0.165, 0.572, 0.015), strict=True)),
        "confidence": [0.0, 0.0, 0.001, 0.017, 0.062, 0.083, 0.087, 0.116, 0.144, 0.49],
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
