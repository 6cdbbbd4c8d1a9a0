"""The structured report of one image: DICOM PS3.16, TID 1500 (Measurement Report)."""

from typing import Any

from highdicom import sr
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom.dataset import Dataset

from service.bridge.codes import LOCAL_SCHEME, Code, Codes
from service.bridge.results import (
    MANUFACTURER,
    RESEARCH_USE,
    SHORT_RESEARCH_USE,
    Uids,
    number_of,
    reference_of,
    take_over,
)
from service.bridge.scoring import Answer
from service.errors import BridgeStopped

_SERIES_NUMBER = 9001
_COMMENT = Code("121106", "DCM", "Comment")


def report_of(answer: Answer, source: Dataset, uids: Uids, codes: Codes) -> Dataset:
    """Build the report.

    It has a measurement group for the flag, with its threshold, the label and the warnings, and one for each
    class, with its probability. Each names the algorithm (TID 4019) and the source image.

    Args:
        answer: of the service.
        source: the instance that was scored.
        uids: of the results.
        codes: of classes and names.
    """
    reference = reference_of(source)
    builder = _Builder(answer, reference, uids, codes)
    report: Dataset = sr.ComprehensiveSR(
        evidence=[reference],
        content=builder.content()[0],
        series_instance_uid=uids.report_series,
        series_number=_SERIES_NUMBER,
        sop_instance_uid=uids.report,
        instance_number=number_of(source),
        manufacturer=MANUFACTURER,
        manufacturer_model_name=answer.model.name,
        software_versions=answer.model.version,
        series_description=f"dermaserve report ({SHORT_RESEARCH_USE.lower()})",
        content_qualification="RESEARCH",
        coding_schemes=[CodingSchemeIdentificationItem(LOCAL_SCHEME, name="Codes of dermaserve")],
        is_complete=True,
        is_final=False,
        is_verified=False,
    )
    take_over(report, source)
    return report


class _Builder:
    """The content of one report."""

    def __init__(self, answer: Answer, reference: Dataset, uids: Uids, codes: Codes) -> None:
        self._answer = answer
        self._prediction: dict[str, Any] = answer.prediction
        self._reference = reference
        self._uids = uids
        self._codes = codes

    def content(self) -> sr.MeasurementReport:
        """Return the whole document tree."""
        device = sr.ObserverContext(
            observer_type=sr.CodedConcept("121007", "DCM", "Device"),
            observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
                uid=self._uids.device,
                name=MANUFACTURER,
                manufacturer_name=MANUFACTURER,
                model_name=self._answer.model.name,
            ),
        )
        tree = sr.MeasurementReport(
            observation_context=sr.ObservationContext(observer_device_context=device),
            procedure_reported=self._name("procedure"),
            imaging_measurements=[self._flag(), *map(self._class, self._prediction["probabilities"])],
        )
        root = tree[0].ContentSequence
        root.append(_text(self._name("use"), RESEARCH_USE))
        root.extend(_text(_concept(_COMMENT), warning["detail"]) for warning in self._prediction["warnings"])
        if self._prediction["metadata_used"]:
            used = (f"{name} {value}" for name, value in self._prediction["metadata_used"].items())
            root.append(_text(self._name("metadata"), ", ".join(used)))
        return tree

    def _flag(self) -> sr.MeasurementsAndQualitativeEvaluations:
        malignancy = self._prediction["malignancy"]
        warnings = [self._codes.of_warning(warning["code"]) for warning in self._prediction["warnings"]]
        return self._group(
            measurements=[
                self._number("malignancy", malignancy["probability"]),
                self._number("threshold", malignancy["threshold"]),
            ],
            evaluations=[
                self._evaluation("flag", self._codes[f"flag.{malignancy['flag']}"]),
                self._evaluation("label", self._class_code(self._prediction["prediction"]["label"])),
                *(self._evaluation("warning", code) for code in warnings),
            ],
        )

    def _class(self, code: str) -> sr.MeasurementsAndQualitativeEvaluations:
        included = self._codes.included_in(code)
        return self._group(
            measurements=[self._number("probability", self._prediction["probabilities"][code])],
            # Not the finding: an index of findings would list every patient under every class.
            evaluations=[
                self._evaluation("class", self._class_code(code)),
                *(self._evaluation("includes", diagnosis) for diagnosis in included),
            ],
        )

    def _group(
        self,
        *,
        measurements: list[sr.Measurement],
        evaluations: list[sr.QualitativeEvaluation],
    ) -> sr.MeasurementsAndQualitativeEvaluations:
        return sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=sr.TrackingIdentifier(uid=self._uids.lesion, identifier="Whole image"),
            algorithm_id=sr.AlgorithmIdentification(
                name=self._answer.model.name,
                version=self._answer.model.version,
                parameters=[SHORT_RESEARCH_USE.capitalize()],
                manufacturer=MANUFACTURER,
            ),
            measurements=measurements,
            qualitative_evaluations=evaluations,
            source_images=[self._source_image()],
        )

    def _source_image(self) -> sr.SourceImageForMeasurementGroup:
        return sr.SourceImageForMeasurementGroup(self._reference.SOPClassUID, self._reference.SOPInstanceUID)

    def _number(self, name: str, value: float) -> sr.Measurement:
        return sr.Measurement(
            name=self._name(name), value=value, unit=_concept(self._codes["unit.probability"])
        )

    def _evaluation(self, name: str, value: Code) -> sr.QualitativeEvaluation:
        return sr.QualitativeEvaluation(name=self._name(name), value=_concept(value))

    def _name(self, name: str) -> sr.CodedConcept:
        return _concept(self._codes[f"name.{name}"])

    def _class_code(self, code: str) -> Code:
        return self._codes.of_class(code, self._answer.names.get(code, code))


def _concept(code: Code) -> sr.CodedConcept:
    return sr.CodedConcept(_ascii(code.value), code.scheme, _ascii(code.meaning))


def _text(name: sr.CodedConcept, value: str) -> sr.TextContentItem:
    return sr.TextContentItem(name, _ascii(value), relationship_type=sr.RelationshipTypeValues.CONTAINS)


def _ascii(text: str) -> str:
    """Refuse what the report's character set may lack: pydicom would store a question mark."""
    if not text.isascii():
        raise BridgeStopped(
            "a class or warning of the service is not in ASCII; the table of codes may name it"
        )
    return text
