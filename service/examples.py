"""What answers look like, for the OpenAPI document. A test holds each against its schema."""

from typing import Any

REQUEST_ID = "01K6X5V7Q2M3N4P5R6S7T8V9WA"

_MODEL = {"name": "ham10000-ensemble", "version": "1.2.0"}

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
    "malignancy": {"flag": "malignant", "probability": 0.65, "threshold": 0.0609},
    "prediction_set": {"coverage": 0.9, "labels": ["mel", "nv"]},
    "uncertainty": {"entropy": 0.50, "disagreement": 0.08, "ood_score": 0.04, "ood_threshold": 0.09},
    "warnings": [{"code": "blurred", "detail": "The image looks blurred. If you can, take it again."}],
    # Not null, as it is unless asked for: FastAPI leaves that out of the document.
    "gradcam": {"label": "mel", "media_type": "image/png", "data": _PIXEL},
}  # fmt: skip


def problem(kind: str, title: str, status: int, detail: str) -> dict[str, Any]:
    """An error as RFC 9457 has it; ``kind`` is its whole type."""
    return {"type": kind, "title": title, "status": status, "detail": detail, "request_id": REQUEST_ID}


BATCH = {
    "results": [
        PREDICTION,
        problem(
            "urn:dermaserve:problem:corrupt-image",
            "Image is truncated or damaged",
            422,
            "The JPEG image is truncated or damaged and cannot be decoded.",
        ),
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
_BALANCED, _SENSITIVITY = _interval(0.745, 0.705, 0.784), _interval(0.956, 0.919, 0.986)

MODEL_CARD: dict[str, Any] = {
    **_MODEL,
    "created": "2026-11-21",
    "git_revision": "a0f9c267633896ae0f9e9adca4f6683053efaa69",
    "provider": "CPUExecutionProvider",
    "classes": [_class(*line) for line in _CLASSES],
    "malignant": [code for code, _, malignant in _CLASSES if malignant],
    "input": {"name": "image", "height": 224, "width": 224, "color": "rgb", "crop": "centre"},
    "members": [
        {"name": "mobilenet_v2", "weight": 0.6, "temperature": 0.97, "parameters": 2266951, "classes": []},
        {"name": "efficientnet_b1", "weight": 0.4, "temperature": 1.21, "parameters": 6584206, "classes": []},
    ],
    "combination": "mean",
    "decision_rule": {
        "tau": 1.0,
        "prior": dict(zip(_CODES, (0.033, 0.051, 0.109, 0.011, 0.111, 0.671, 0.014), strict=True)),
    },
    "operating_point": {
        "threshold": 0.0609,
        "target_sensitivity": 0.97,
        "sensitivity": _interval(0.973, 0.950, 0.990),
        "specificity": _interval(0.601, 0.570, 0.637),
    },
    "prediction_sets": {
        "coverage": 0.9,
        "thresholds": dict(zip(_CODES, (0.012, 0.069, 0.200, 0.009, 0.073, 0.577, 0.001), strict=True)),
        "measured": {"overall": _interval(0.901, 0.882, 0.921), "mel": _interval(0.898, 0.828, 0.957)},
        "mean_size": _interval(1.66, 1.62, 1.71),
    },
    "out_of_distribution": {"method": "PCA residual of pooled features", "threshold": 0.09, "quantile": 0.99},
    "disagreement": {"threshold": 0.303, "quantile": 0.99},
    "quality": {
        "sharpness_min": 9.92,
        "brightness_min": 90.5,
        "brightness_max": 210.6,
        "contrast_min": 8.23,
        "clipped_max": 0.01,
        "quantile": 0.9975,
    },
    "metrics": {"balanced_accuracy": _BALANCED, "malignancy_sensitivity": _SENSITIVITY},
    "subgroups": [
        {
            "factor": "age",
            "value": "40-59",
            "images": 652,
            "metrics": {"balanced_accuracy": _interval(0.811, 0.736, 0.882)},
        }
    ],
    "drift_reference": {
        "images": 1498,
        "labels": dict(zip(_CODES, (0.023, 0.053, 0.168, 0.020, 0.220, 0.501, 0.015), strict=True)),
        "confidence": [0.0, 0.0, 0.002, 0.015, 0.057, 0.095, 0.08, 0.126, 0.16, 0.465],
    },
    "licence": "CC BY-NC 4.0",
    "citation": "Tschandl P., Rosendahl C., Kittler H. The HAM10000 dataset. Sci. Data 5, 180161 (2018)",
    "intended_use": "Research and education on dermatoscopic images. Not a medical device.",
    "limits": ["Only the classes of its data: anything else is still forced into one of them."],
}
