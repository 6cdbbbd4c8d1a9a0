"""The UIDs of results follow from the source and the model, and nothing of the patient is changed or lost."""

import io
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID

from service.bridge.instances import Instance
from service.bridge.results import number_of, reference_of, take_over, uids_of
from service.bridge.scoring import Model
from tests.dicom_files import dicom_file

SOURCE = Instance("1.1", "1.2", "1.3")
MODEL = Model("ham10000-ensemble", "1.3.0")


def instance(**changes: Any) -> Dataset:
    return dcmread(io.BytesIO(dicom_file(**changes)))


def test_the_same_instance_and_model_have_the_same_valid_uids() -> None:
    uids = uids_of(SOURCE, MODEL)
    assert uids == uids_of(SOURCE, MODEL)
    assert len(set(uids)) == len(uids)
    assert all(UID(uid).is_valid for uid in uids)
    # For ever: another value would store the results of old instances once more.
    assert uids.report == "2.25.325861662208129531931552230754019950054"


@pytest.mark.parametrize(
    ("source", "model"),
    [
        (SOURCE._replace(uid="1.4"), MODEL),
        (SOURCE, MODEL._replace(version="1.4.0")),
        (SOURCE, MODEL._replace(name="other")),
    ],
)
def test_another_instance_or_model_version_has_other_results(source: Instance, model: Model) -> None:
    uids, others = uids_of(SOURCE, MODEL), uids_of(source, model)
    assert uids.report != others.report
    assert uids.capture != others.capture


def test_results_of_a_series_lie_in_two_series() -> None:
    uids, others = uids_of(SOURCE, MODEL), uids_of(SOURCE._replace(uid="1.4"), MODEL)
    assert (uids.report_series, uids.capture_series) == (others.report_series, others.capture_series)
    assert uids.report_series != uids_of(SOURCE._replace(series="1.5"), MODEL).report_series


def test_patient_and_study_are_taken_over_as_they_are() -> None:
    source = instance(PatientID="HOSP-4711", StudyInstanceUID="1.1", SpecificCharacterSet="ISO_IR 100")
    result = Dataset()
    take_over(result, source)
    assert (result.PatientName, result.PatientID) == ("Quixote^Don", "HOSP-4711")
    assert result.StudyInstanceUID == "1.1"
    assert result.AccessionNumber == ""


def test_what_highdicom_gets_has_no_data_of_the_patient() -> None:
    source = instance(StudyInstanceUID="1.1", SeriesInstanceUID="1.2")
    text = str(reference_of(source))
    assert "Quixote" not in text
    assert "HOSP-4711" not in text


@pytest.mark.parametrize(("number", "expected"), [(7, 7), (0, 1), (None, 1), ("", 1)])
def test_results_have_the_number_of_their_source(number: object, expected: int) -> None:
    assert number_of(instance(InstanceNumber=number)) == expected
