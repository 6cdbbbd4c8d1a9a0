"""What reports and captures say. These tests need the extra ``dicom-bridge``: ``make bridge-test``."""

import base64
import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit

pytest.importorskip("highdicom", reason="reports are not tested: the extra dicom-bridge is not installed")

from service.bridge.capture import capture_of, with_caption
from service.bridge.codes import load_codes
from service.bridge.instances import Instance
from service.bridge.report import report_of
from service.bridge.results import RESEARCH_USE, uids_of
from service.bridge.scoring import Answer
from service.bridge.settings import BridgeSettings
from service.errors import BridgeStopped

CODES = load_codes(BridgeSettings().codes_file)


def stored(result: Dataset) -> Dataset:
    """The result as an archive gets it."""
    buffer = io.BytesIO()
    dcmwrite(buffer, result)
    buffer.seek(0)
    return dcmread(buffer)


def report(answer: Answer, source: Dataset) -> Dataset:
    return stored(report_of(answer, source, uids_of(place(source), answer.model), CODES))


def capture(answer: Answer, source: Dataset) -> Dataset:
    return stored(capture_of(answer, source, uids_of(place(source), answer.model)))


def place(source: Dataset) -> Instance:
    return Instance(source.StudyInstanceUID, source.SeriesInstanceUID, source.SOPInstanceUID)


def items(container: Dataset) -> Iterator[Dataset]:
    """All content items below one."""
    for item in container.get("ContentSequence", ()):
        yield item
        yield from items(item)


def name(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeMeaning)


def code(item: Dataset) -> tuple[str, str]:
    found = item.ConceptCodeSequence[0]
    return found.get("CodeValue") or found.LongCodeValue, found.CodingSchemeDesignator


def number(item: Dataset) -> float:
    return float(item.MeasuredValueSequence[0].NumericValue)


def groups(document: Dataset) -> list[Dataset]:
    return [item for item in items(document) if name(item) == "Measurement Group"]


def test_the_report_is_a_tid_1500_in_the_study_of_its_source(answer: Answer, source: Dataset) -> None:
    found = report(answer, source)
    assert found.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert found.StudyInstanceUID == source.StudyInstanceUID
    assert (found.PatientName, found.PatientID) == (source.PatientName, source.PatientID)
    assert found.SOPInstanceUID == uids_of(place(source), answer.model).report
    assert found.InstanceNumber == 7
    (study,) = found.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    assert [item.ReferencedSOPInstanceUID for item in series.ReferencedSOPSequence] == [source.SOPInstanceUID]


def test_each_class_has_a_group_with_its_code_and_its_probability(answer: Answer, source: Dataset) -> None:
    probabilities = {}
    for group in groups(report(answer, source))[1:]:
        (finding,) = (item for item in items(group) if name(item) == "Class whose probability is given")
        (value,) = (number(item) for item in items(group) if item.ValueType == "NUM")
        probabilities[code(finding)] = value
    expected = {
        ("akiec", "99DERMASERVE"): 0.01,
        ("254701007", "SCT"): 0.02,
        ("bkl", "99DERMASERVE"): 0.05,
        ("427186000", "SCT"): 0.0,
        ("93655004", "SCT"): 0.62,
        ("400096001", "SCT"): 0.29,
        ("vasc", "99DERMASERVE"): 0.01,
    }
    assert probabilities == expected


def test_no_class_is_given_as_a_finding(answer: Answer, source: Dataset) -> None:
    assert "Finding" not in [name(item) for item in items(report(answer, source))]


def test_the_first_group_has_the_flag_its_threshold_the_label_and_the_warnings(
    answer: Answer, source: Dataset
) -> None:
    group = groups(report(answer, source))[0]
    numbers = {name(item): number(item) for item in items(group) if item.ValueType == "NUM"}
    assert numbers == {
        "Probability of the malignant classes": 0.65,
        "Threshold of the malignancy flag": 0.0503,
    }
    codes = {name(item): code(item) for item in items(group) if item.ValueType == "CODE"}
    assert codes["Malignancy flag"] == ("flag-raised", "99DERMASERVE")
    assert codes["Class picked by the decision rule"] == ("93655004", "SCT")
    assert codes["Warning"] == ("blurred", "99DERMASERVE")


def test_every_group_names_the_algorithm_and_the_source(answer: Answer, source: Dataset) -> None:
    found = groups(report(answer, source))
    assert len(found) == 8
    for group in found:
        texts = {name(item): item.TextValue for item in items(group) if item.ValueType == "TEXT"}
        assert texts["Algorithm Name"] == "ham10000-ensemble"
        assert texts["Algorithm Version"] == "1.3.0"
        assert texts["Algorithm Parameters"] == "Research use only"
        (image,) = (item for item in items(group) if item.ValueType == "IMAGE")
        assert image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID


def test_the_report_says_research_use_warnings_and_metadata_in_words(answer: Answer, source: Dataset) -> None:
    document = report(answer, source)
    texts = [(name(item), item.TextValue) for item in document.ContentSequence if item.ValueType == "TEXT"]
    assert ("Restriction of use", RESEARCH_USE) in texts
    assert ("Comment", answer.prediction["warnings"][0]["detail"]) in texts
    assert ("Facts about the patient that the model used", "age 55, site back") in texts
    assert "research use only" in document.SeriesDescription
    assert document.ContentQualification == "RESEARCH"
    assert (document.VerificationFlag, document.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")


def test_a_benign_answer_without_warnings_has_no_more_than_it_says(answer: Answer, source: Dataset) -> None:
    answer.prediction["malignancy"] = {"flag": "benign", "probability": 0.01, "threshold": 0.0503}
    answer.prediction["warnings"] = []
    answer.prediction["metadata_used"] = None
    document = report(answer, source)
    codes = {name(item): code(item) for item in items(groups(document)[0]) if item.ValueType == "CODE"}
    assert codes["Malignancy flag"] == ("flag-not-raised", "99DERMASERVE")
    assert "Warning" not in codes
    texts = {name(item) for item in document.ContentSequence if item.ValueType == "TEXT"}
    assert "Restriction of use" in texts
    assert not {"Comment", "Facts about the patient that the model used"} & texts


def test_classes_of_another_model_get_local_codes(answer: Answer, source: Dataset) -> None:
    answer.prediction["probabilities"] = {"scc": 1.0}
    answer.names["scc"] = "Squamous cell carcinoma"
    (group,) = groups(report(answer, source))[1:]
    (finding,) = (item for item in items(group) if name(item) == "Class whose probability is given")
    assert code(finding) == ("scc", "99DERMASERVE")
    assert finding.ConceptCodeSequence[0].CodeMeaning == "Squamous cell carcinoma"


def test_names_that_are_not_ascii_are_not_stored_as_question_marks(answer: Answer, source: Dataset) -> None:
    answer.prediction["probabilities"] = {"scc": 1.0}
    answer.names["scc"] = "Carcinome épidermoïde"
    with pytest.raises(BridgeStopped, match="not in ASCII"):
        report(answer, source)


def test_the_capture_shows_the_overlay_with_research_use_below(answer: Answer, source: Dataset) -> None:
    found = capture(answer, source)
    with Image.open(io.BytesIO(base64.b64decode(answer.prediction["gradcam"]["data"]))) as picture:
        overlay = np.asarray(picture.convert("RGB"))
    pixels = found.pixel_array
    assert np.array_equal(pixels[:224], overlay)
    assert pixels[224:].max() == 255
    assert found.ImageComments == RESEARCH_USE
    assert "research use only" in found.SeriesDescription
    assert found.ContentQualification == "RESEARCH"
    assert "for class mel" in found.DerivationDescription


def test_the_caption_is_never_cut_off() -> None:
    png = io.BytesIO()
    Image.new("RGB", (32, 32), "brown").save(png, "PNG")
    narrow, wide = (with_caption(png.getvalue(), (text,)) for text in ("short", 20 * "long "))
    assert wide.shape[1] > narrow.shape[1]
    assert wide[:, -4:].max() == 0


def test_the_capture_names_its_source_and_is_no_photograph(answer: Answer, source: Dataset) -> None:
    found = capture(answer, source)
    (reference,) = found.SourceImageSequence
    assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert reference.ReferencedSOPClassUID == source.SOPClassUID
    assert found.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
    assert found.ImageType[:2] == ["DERIVED", "SECONDARY"]
    assert (found.PatientName, found.StudyInstanceUID) == (source.PatientName, source.StudyInstanceUID)


def test_what_is_burned_in_or_was_lost_stays_known(answer: Answer, source: Dataset) -> None:
    for keyword in ("BurnedInAnnotation", "PatientIdentityRemoved"):
        source.pop(keyword, None)
        assert keyword not in capture(answer, source)
    source.PatientIdentityRemoved = "NO"
    assert capture(answer, source).PatientIdentityRemoved == "NO"
    source.BurnedInAnnotation = "YES"
    source.LossyImageCompression = "01"
    source.ImageLaterality = "L"
    found = capture(answer, source)
    assert (found.BurnedInAnnotation, found.LossyImageCompression, found.ImageLaterality) == (
        "YES",
        "01",
        "L",
    )


def test_a_jpeg_is_a_loss_even_if_its_file_does_not_say_so(answer: Answer, source: Dataset) -> None:
    source.pop("LossyImageCompression", None)
    source.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    assert "LossyImageCompression" not in capture(answer, source)
    source.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    assert capture(answer, source).LossyImageCompression == "01"


def test_all_groups_are_about_one_lesion_whatever_the_model(answer: Answer, source: Dataset) -> None:
    identifiers = {
        item.TextValue for item in items(report(answer, source)) if name(item) == "Tracking Identifier"
    }
    assert identifiers == {"Whole image"}
    versions = (answer.model, answer.model._replace(version="9.0.0"))
    assert len({uids_of(place(source), model).lesion for model in versions}) == 1


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_values_that_are_not_valid_are_neither_refused_nor_logged(
    answer: Answer, source: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    source.PatientSex = "UNKNOWN"
    source.PatientBirthDate = "1947"
    source.PatientName = "Quixote"
    caplog.clear()
    assert report(answer, source).PatientSex == "UNKNOWN"
    assert capture(answer, source).PatientBirthDate == "1947"
    assert [record for record in caplog.records if record.name.startswith("highdicom")] == []
