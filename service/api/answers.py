"""From what was found in an image to the JSON that says it: the same for a request and for a file."""

from models.bundle import Manifest
from models.predictive import predictive_values_of
from service.api.schemas import (
    FlagValue,
    ImageWarning,
    Malignancy,
    ModelCard,
    ModelName,
    PredictedClass,
    Prediction,
    PredictionSet,
    Uncertainty,
)
from service.inference.classifier import Classified


def model_name(manifest: Manifest) -> ModelName:
    """Which model answers."""
    return ModelName(name=manifest.name, version=manifest.version)


def card_of(manifest: Manifest, provider: str) -> bytes:
    """JSON of ``ModelCard``: the model of ``manifest``, run by ONNX Runtime's ``provider``."""
    own = {
        "provider": provider,
        "predictive_values": [FlagValue(**at._asdict()) for at in predictive_values_of(manifest)],
    }
    facts = {name: getattr(manifest, name) for name in ModelCard.model_fields if name not in own}
    return ModelCard.model_validate(facts | own).model_dump_json().encode()


def prediction_of(manifest: Manifest, found: Classified, request_id: str) -> Prediction:
    """What is said of one image, without an overlay."""
    decision = found.decision
    names = {c.code: c.name for c in manifest.classes}
    return Prediction(
        request_id=request_id,
        model=model_name(manifest),
        probabilities=decision.probabilities,
        prediction=PredictedClass(
            label=decision.label,
            name=names[decision.label],
            probability=decision.probabilities[decision.label],
        ),
        malignancy=Malignancy(
            flag=decision.flag,
            probability=decision.malignancy,
            threshold=manifest.operating_point.threshold,
        ),
        prediction_set=PredictionSet(
            coverage=manifest.prediction_sets.coverage, labels=list(decision.prediction_set)
        ),
        uncertainty=Uncertainty(
            **found.uncertainty._asdict(), ood_threshold=manifest.out_of_distribution.threshold
        ),
        warnings=[ImageWarning(**caution._asdict()) for caution in found.cautions],
        gradcam=None,
    )
