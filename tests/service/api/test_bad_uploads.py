"""Bad uploads get the documented response, and the next good request succeeds."""

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.icc_profiles import grey_profile
from tests.service.app_client import Client
from tests.service.conftest import JPEG, assert_problem
from tests.synthetic import encoded

PNG = {"content-type": "image/png"}

pytestmark = pytest.mark.usefixtures("next_is_answered")


def huge_png(side: int) -> bytes:
    """Build a grey PNG of side x side pixels in a few kB, without its pixels in memory."""
    packer = zlib.compressobj(9)
    row = b"\0" * (side // 8 + 1)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()

    def chunk(name: bytes, content: bytes) -> bytes:
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("path", ["/predict", "/gradcam"])
def test_empty_body_is_422(client: Client, path: str) -> None:
    assert_problem(client.post(path), 422, "invalid-request")
    assert_problem(client.post(path, headers=JPEG), 422, "invalid-request")
    assert_problem(client.post(path, content=iter([b""]), headers=JPEG), 422, "invalid-request")
    assert_problem(client.post(path, files={"file": b""}), 422, "invalid-request")


def test_text_named_jpg_is_415(client: Client) -> None:
    files = {"file": ("lesion.jpg", b"Dear doctor, please find attached\n", "image/jpeg")}
    assert_problem(client.post("/predict", files=files), 415, "unsupported-image")


def test_gif_is_415_although_pillow_could_read_it(client: Client, lesion: Image.Image) -> None:
    assert_problem(
        client.post("/predict", content=encoded(lesion, "GIF"), headers=JPEG), 415, "unsupported-image"
    )


def test_truncated_jpeg_is_422(client: Client, jpeg: bytes) -> None:
    for length in (4, 200, len(jpeg) // 2, len(jpeg) - 20):
        response = client.post("/predict", content=jpeg[:length], headers=JPEG)
        assert_problem(response, 422, "corrupt-image")


def test_one_pixel_png_is_answered_with_a_warning(client: Client) -> None:
    response = client.post("/predict", content=encoded(Image.new("RGB", (1, 1)), "PNG"), headers=PNG)
    assert response.status_code == 200
    assert [w["code"] for w in response.json()["warnings"]] == ["low_resolution"]


def test_unusual_modes_are_answered_as_their_rgb_equivalent(client: Client, lesion: Image.Image) -> None:
    def probabilities(data: bytes) -> dict[str, float]:
        response = client.post("/predict", content=data, headers=PNG)
        assert response.status_code == 200, response.text
        found: dict[str, float] = response.json()["probabilities"]
        return found

    plain = probabilities(encoded(lesion, "PNG"))
    opaque = lesion.copy()
    opaque.putalpha(255)
    assert probabilities(encoded(opaque, "PNG")) == plain
    grey = probabilities(encoded(lesion.convert("L"), "PNG"))
    wide = np.asarray(lesion.convert("L")).astype(np.uint16) * 257
    assert probabilities(encoded(Image.fromarray(wide), "PNG")) == pytest.approx(grey, abs=0.02)
    assert probabilities(encoded(lesion.convert("L"), "JPEG", quality=95)) == pytest.approx(grey, abs=0.02)
    cmyk = probabilities(encoded(lesion.convert("CMYK"), "JPEG", quality=95))
    assert cmyk == pytest.approx(plain, abs=0.05)


def test_animated_webp_is_answered_from_its_first_frame_with_a_warning(client: Client) -> None:
    frames = [Image.new("RGB", (300, 300), color) for color in ("brown", "pink")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    body = client.post("/predict", content=buffer.getvalue(), headers={"content-type": "image/webp"}).json()
    still = client.post("/predict", content=encoded(frames[0], "PNG"), headers=PNG).json()
    assert [w["code"] for w in body["warnings"]] == ["multiple_frames"]
    assert body["probabilities"] == still["probabilities"]


def test_a_colour_profile_of_another_colour_space_is_ignored_with_a_warning(
    client: Client, lesion: Image.Image
) -> None:
    plain = client.post("/predict", content=encoded(lesion, "PNG"), headers=PNG).json()
    data = encoded(lesion, "PNG", icc_profile=grey_profile(2.2))
    body = client.post("/predict", content=data, headers=PNG).json()
    assert body["warnings"][0]["code"] == "color_profile_ignored"
    assert body["probabilities"] == plain["probabilities"]


def test_rotated_photo_gets_the_answer_of_the_upright_one(client: Client, lesion: Image.Image) -> None:
    square = lesion.crop((75, 0, 525, 450))
    upright = client.post("/predict?gradcam=1", content=encoded(square, "PNG"), headers=PNG).json()
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(square.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    rotated = client.post("/predict?gradcam=1", content=turned, headers=PNG).json()
    assert rotated["probabilities"] == upright["probabilities"]
    assert rotated["gradcam"]["data"] == upright["gradcam"]["data"]


def test_pixel_bomb_is_413_from_its_header(client: Client) -> None:
    bomb = huge_png(20_000)
    assert len(bomb) < 60_000
    response = client.post("/predict", content=bomb, headers=PNG)
    assert_problem(response, 413, "image-too-large")


def test_body_over_the_limit_is_413_with_and_without_a_content_length(client: Client) -> None:
    read = 0

    def drip() -> Iterator[bytes]:
        nonlocal read
        for _ in range(60):
            read += 1
            yield b"\xff" * 1_000_000

    headers = JPEG | {"content-length": "60000000"}
    assert_problem(client.post("/predict", content=drip(), headers=headers), 413, "body-too-large")
    assert read <= 4  # nothing is kept; a little is drained, so that the answer arrives
    read = 0
    assert_problem(client.post("/predict", content=drip(), headers=JPEG), 413, "body-too-large")
    assert read <= 25


def test_wrong_part_name_is_422_naming_the_right_one(client: Client, jpeg: bytes) -> None:
    response = client.post("/predict", files={"image": jpeg})
    assert_problem(response, 422, "invalid-request")
    assert "'file'" in response.json()["detail"]


def test_two_parts_named_file_are_422(client: Client, jpeg: bytes) -> None:
    response = client.post("/predict", files=[("file", jpeg), ("file", jpeg)])
    assert_problem(response, 422, "invalid-request")


def test_other_form_fields_beside_the_file_are_ignored(client: Client, jpeg: bytes) -> None:
    response = client.post("/predict", files={"file": jpeg}, data={"patient": "nobody"})
    assert response.status_code == 200


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/plain", "image/gif", "multipart/mixed", ""]
)
def test_other_content_types_are_415(client: Client, jpeg: bytes, content_type: str) -> None:
    response = client.post("/predict", content=jpeg, headers={"content-type": content_type})
    assert_problem(response, 415, "unsupported-media-type")


def test_compressed_bodies_are_415(client: Client, jpeg: bytes) -> None:
    for encodings in (["gzip"], ["identity", "gzip"], ["identity, gzip"]):
        headers = [*JPEG.items(), *(("content-encoding", encoding) for encoding in encodings)]
        response = client.post("/predict", content=jpeg, headers=headers)
        assert_problem(response, 415, "unsupported-media-type")


def test_the_claimed_image_type_does_not_matter(client: Client, jpeg: bytes) -> None:
    for content_type in ("image/png", "image/bmp; charset=utf-8", "IMAGE/TIFF"):
        response = client.post("/predict", content=jpeg, headers={"content-type": content_type})
        assert response.status_code == 200


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"--x\r\n\r\n--x--\r\n"),
        ("multipart/form-data; boundary=", b"----\r\n"),
        ("multipart/form-data; boundary=x", b"no boundary here"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc'),
        ("multipart/form-data; boundary=x", b"--x\r\n: : :\r\n\r\nabc\r\n--x--\r\n"),
        ("multipart/form-data; boundary=x", b"--x\r\nA: " + b"b" * 5000 + b"\r\n\r\nabc\r\n--x--\r\n"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n\r\n" * 100 + b"--x--\r\n"),
        ("multipart/form-data; boundary=" + "y" * 5000, b"abc"),
        ("multipart/form-data; boundary=\u00e4", b"abc"),
    ],
)
def test_malformed_multipart_is_422(client: Client, content_type: str, body: bytes) -> None:
    headers = {b"content-type": content_type.encode("latin-1")}
    assert_problem(client.post("/predict", content=body, headers=headers), 422, "invalid-request")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_fuzzed_multipart_never_fails_the_server(client: Client, data: st.DataObject) -> None:
    good = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n'
        b"Content-Type: image/jpeg\r\n\r\n\xff\xd8\xff\xe0 pixels\r\n--x--\r\n"
    )
    body = bytearray(good)
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(0, len(body)))
        body[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    headers = {"content-type": "multipart/form-data; boundary=x"}
    response = client.post("/predict", content=bytes(body), headers=headers)
    assert response.status_code in (415, 422), response.text
