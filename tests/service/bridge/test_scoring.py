"""What the service is sent of an instance, and what the bridge makes of its answers."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread, uid
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames

from service.api.examples import MODEL_CARD, PREDICTION
from service.bridge.http import new_session
from service.bridge.scoring import Service, metadata_of, pixels_only, without_texts
from service.errors import Away, BridgeStopped, InstanceRefused
from tests.dicom_files import SECRETS, dicom_file
from tests.service.bridge.scripted import Said, Scripted, scripted
from tests.synthetic import draw_lesion, encoded

CARD = MODEL_CARD | {"formats": ["image/jpeg", "application/dicom"]}
MODEL, PREDICT = "GET /model", "POST /predict?gradcam=true"


def instance(**changes: Any) -> Dataset:
    return dcmread(io.BytesIO(dicom_file(**changes)))


def service(server: Scripted, key: str | None = None) -> Service:
    return Service(server.url, new_session(), 5, key)


def test_only_pixels_leave_the_bridge() -> None:
    source = instance(
        SOPClassUID=uid.DermoscopicPhotographyImageStorage, BurnedInAnnotation="YES", ICCProfile=b"icc!"
    )
    sent = pixels_only(source)
    assert [secret for secret in SECRETS if secret.encode() in sent] == []
    assert b"1.2.3\0" not in sent
    found = dcmread(io.BytesIO(sent))
    assert np.array_equal(found.pixel_array, source.pixel_array)
    assert (found.BurnedInAnnotation, found.ICCProfile) == ("YES", b"icc!")


def test_a_jpeg_is_sent_without_what_its_camera_wrote() -> None:
    picture = draw_lesion(np.random.default_rng(3), width=64, height=48)
    exif = Image.Exif()
    exif[0x013B] = exif[0x010E] = "Quixote"
    extra: dict[str, Any] = {"exif": exif, "comment": "Sancho", "icc_profile": b"profile of colours"}
    full = encoded(picture, "JPEG", **extra) + b"LaMancha"
    full = full[:2] + b"\xff\xed\0\x0bHOSP-4711" + full[2:]
    assert all(secret in full for secret in (b"Quixote", b"Sancho", b"LaMancha", b"HOSP-4711"))
    source = instance(picture=picture, jpeg=full, frames=2, PhotometricInterpretation="YBR_FULL_422")
    sent = pixels_only(source)
    assert [secret for secret in SECRETS if secret.encode() in sent] == []
    assert b"Exif" not in sent
    found = dcmread(io.BytesIO(sent))
    frames = list(generate_frames(found.PixelData, number_of_frames=2))
    assert len(frames) == 2
    for frame in frames:
        image = Image.open(io.BytesIO(frame))
        assert image.info["icc_profile"] == b"profile of colours"
        assert np.array_equal(np.asarray(image), np.asarray(Image.open(io.BytesIO(full))))


@pytest.mark.parametrize("options", [{"progressive": True}, {"restart_marker_blocks": 1}, {"optimize": True}])
def test_the_pixels_of_a_without_texts_are_the_same(options: dict[str, Any]) -> None:
    data = encoded(draw_lesion(np.random.default_rng(4), width=64, height=48), "JPEG", **options)
    before, after = (np.asarray(Image.open(io.BytesIO(each))) for each in (data, without_texts(data)))
    assert np.array_equal(before, after)


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 5, 100])
def test_a_jpeg_that_ends_before_its_pixels_is_refused(cut: int) -> None:
    data = encoded(Image.new("RGB", (16, 16), "brown"), "JPEG")
    with pytest.raises(InstanceRefused, match="its JPEG is damaged"):
        without_texts(data[:cut])


def test_damage_of_the_compressed_data_is_left_to_the_service() -> None:
    data = encoded(draw_lesion(np.random.default_rng(5), width=64, height=48), "JPEG")
    assert without_texts(data[:-100]) == data[:-100]


def test_frames_that_are_not_encapsulated_are_refused() -> None:
    source = instance(jpeg=encoded(Image.new("RGB", (16, 16)), "JPEG"))
    source.PixelData = bytes(100)
    with pytest.raises(InstanceRefused, match="frames cannot be found"):
        pixels_only(source)


def test_a_plain_jpeg_is_sent_as_it_is() -> None:
    jpeg = encoded(Image.new("RGB", (16, 16), "brown"), "JPEG")
    source = instance(picture=Image.new("RGB", (16, 16)), jpeg=jpeg, PhotometricInterpretation="YBR_FULL_422")
    sent = pixels_only(source)
    assert dcmread(io.BytesIO(sent)).file_meta.TransferSyntaxUID == uid.JPEGBaseline8Bit
    assert jpeg in sent


@pytest.mark.filterwarnings("ignore:Invalid value for VR DA")
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"PatientAge": "061Y", "PatientSex": "F"}, {"age": "61", "sex": "female"}),
        ({"PatientAge": "030M", "PatientSex": "M"}, {"age": "2", "sex": "male"}),
        ({"PatientBirthDate": "19500630", "StudyDate": "20200629", "PatientSex": "O"}, {"age": "69"}),
        ({"PatientBirthDate": "19500630", "StudyDate": "20200630"}, {"age": "70"}),
        ({"PatientBirthDate": "19500630", "StudyDate": "2020"}, {}),
        ({"PatientBirthDate": "17000101", "StudyDate": "20200101"}, {}),
        ({"PatientBirthDate": "20200102", "StudyDate": "20200101"}, {}),
        ({"PatientBirthDate": "", "PatientAge": "", "PatientSex": ""}, {}),
    ],
)
def test_age_and_sex_are_read_as_far_as_they_are_known(
    changes: dict[str, str], expected: dict[str, str]
) -> None:
    assert metadata_of(instance(**changes)) == expected


@pytest.mark.parametrize("asked_for", [False, True])
def test_age_and_sex_are_sent_only_if_asked_for(asked_for: bool) -> None:
    with scripted({MODEL: Said(body=CARD), PREDICT: Said(body=PREDICTION)}) as server:
        source = instance(PatientAge="061Y", PatientSex="F")
        answer = service(server, "dsk_key").score(source, age_and_sex=asked_for)
    sent = next(asked for asked in server.asked if asked.method == "POST")
    assert sent.headers["X-API-Key"] == "dsk_key"
    assert (b'name="age"' in sent.body, b"female" in sent.body) == (asked_for, asked_for)
    assert answer.model == ("ham10000-ensemble", "1.3.0")
    assert answer.names["mel"] == "Melanoma"
    assert answer.overlay.startswith(b"\x89PNG")


@pytest.mark.parametrize("status", [413, 415, 422])
def test_a_refused_image_is_told_by_the_type_of_its_problem(status: int) -> None:
    problem = {"type": "urn:dermaserve:problem:corrupt-image", "detail": "secret"}
    with (
        scripted({MODEL: Said(body=CARD), PREDICT: Said(status, problem)}) as server,
        pytest.raises(InstanceRefused, match=f"cannot use the image: {status}, corrupt-image$"),
    ):
        service(server).score(instance(), age_and_sex=False)


def test_an_instance_above_the_limit_of_the_service_is_not_sent() -> None:
    card = CARD | {"request_limits": {"max_body_bytes": 10_000}}
    with scripted({MODEL: Said(body=card)}) as server:
        large = instance(picture=Image.new("RGB", (64, 64)))
        with pytest.raises(InstanceRefused, match="accepts no body of"):
            service(server).score(large, age_and_sex=False)
    assert [asked.method for asked in server.asked] == ["GET"]


def test_a_full_service_is_away() -> None:
    answers: dict[str, Said | list[Said]] = {
        MODEL: Said(body=CARD),
        PREDICT: Said(503, headers={"Retry-After": "3"}),
    }
    with scripted(answers) as server, pytest.raises(Away) as caught:
        service(server).score(instance(), age_and_sex=False)
    assert (caught.value.retry_after, caught.value.fault) == (3, False)


def test_an_image_is_scored_again_when_the_model_changed_meanwhile() -> None:
    answers: dict[str, Said | list[Said]] = {
        MODEL: Said(body=CARD | {"version": "1.4.0"}),
        PREDICT: Said(body=PREDICTION),
    }
    with scripted(answers) as server, pytest.raises(Away, match="changed its model"):
        service(server).score(instance(), age_and_sex=False)


def test_a_service_without_dicom_stops_the_bridge() -> None:
    with (
        scripted({MODEL: Said(body=CARD | {"formats": ["image/jpeg"]})}) as server,
        pytest.raises(BridgeStopped, match="install its extra 'dicom'"),
    ):
        service(server).model()


@pytest.mark.parametrize("said", [Said(404), Said(body={"hello": 1}), Said(body=[])])
def test_another_program_at_the_address_stops_the_bridge(said: Said) -> None:
    with scripted({MODEL: said}) as server, pytest.raises(BridgeStopped, match="no dermaserve"):
        service(server).model()
