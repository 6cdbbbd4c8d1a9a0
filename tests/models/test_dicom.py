"""DICOM: photographs are read like any other image, other files are refused, and no name is revealed."""

import logging
import struct
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import uid

from models.errors import CorruptImage, ImageError, ImageTooLarge, UnsupportedImage
from models.preprocess import ACCEPTED_FORMATS, Decoded, decode
from tests.dicom_files import SECRETS, dicom_file
from tests.synthetic import draw_lesion, encoded

LESION = draw_lesion(np.random.default_rng(1), code="mel", width=120, height=90)
GREY = LESION.convert("L")


def small(data: bytes, **options: Any) -> Decoded:
    return decode(data, height=32, width=32, **options)


def same(data: bytes, picture: Image.Image, tolerance: int = 0) -> Decoded:
    """Assert that ``data`` decodes to the same pixels as a PNG of ``picture``."""
    found, expected = small(data), small(encoded(picture, "PNG"))
    difference = np.abs(found.pixels.astype(int) - expected.pixels.astype(int)).max()
    assert difference <= tolerance
    assert (found.format, found.width, found.height) == ("DICOM", expected.width, expected.height)
    return found


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
@pytest.mark.parametrize("picture", [LESION, GREY], ids=["RGB", "MONOCHROME2"])
def test_uncompressed_pixels_are_read_as_they_are(syntax: str, picture: Image.Image) -> None:
    found = same(dicom_file(picture, syntax=syntax), picture)
    assert (found.several_frames, found.burned_in) == (False, False)


@pytest.mark.parametrize(
    "sop_class",
    [
        uid.SecondaryCaptureImageStorage,
        uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
        uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        uid.VLPhotographicImageStorage,
        uid.DermoscopicPhotographyImageStorage,
    ],
)
def test_every_kind_of_photograph_is_read(sop_class: str) -> None:
    same(dicom_file(LESION, SOPClassUID=sop_class), LESION)


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
def test_a_file_that_does_not_state_the_length_of_its_first_group_is_read(syntax: str) -> None:
    file = dicom_file(LESION, syntax=syntax)
    assert file[132:136] == b"\x02\x00\x00\x00"
    np.testing.assert_array_equal(decode(file[:132] + file[144:]).pixels, decode(file).pixels)


def test_low_samples_of_monochrome1_are_bright() -> None:
    inverted = Image.fromarray(255 - np.asarray(GREY))
    same(dicom_file(inverted, PhotometricInterpretation="MONOCHROME1"), GREY, tolerance=1)


def test_planes_one_after_the_other_are_put_together() -> None:
    planes = np.moveaxis(np.asarray(LESION), -1, 0).tobytes()
    same(dicom_file(LESION, pixels=planes, PlanarConfiguration=1), LESION)


def test_luma_and_colour_become_rgb() -> None:
    pixels = np.asarray(LESION.convert("YCbCr")).tobytes()
    same(dicom_file(LESION, pixels=pixels, PhotometricInterpretation="YBR_FULL"), LESION, tolerance=4)


def test_two_pixels_share_their_colour_in_ybr_full_422() -> None:
    plain = Image.new("RGB", (120, 90), (180, 90, 40))
    luma, blue, red = np.moveaxis(np.asarray(plain.convert("YCbCr")), -1, 0)
    pixels = np.stack([luma[:, ::2], luma[:, 1::2], blue[:, ::2], red[:, ::2]], axis=-1).tobytes()
    data = dicom_file(LESION, pixels=pixels, PhotometricInterpretation="YBR_FULL_422")
    same(data, plain, tolerance=2)


def test_a_jpeg_inside_is_read_as_the_jpeg_alone() -> None:
    jpeg = encoded(LESION, "JPEG", quality=90)
    found = small(dicom_file(LESION, jpeg=jpeg, PhotometricInterpretation="YBR_FULL_422"))
    assert np.array_equal(found.pixels, small(jpeg).pixels)


def test_exif_orientation_of_a_jpeg_inside_is_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    found = small(dicom_file(LESION, jpeg=encoded(LESION, "JPEG", quality=90, exif=exif.tobytes())))
    assert np.array_equal(found.pixels, small(encoded(LESION, "JPEG", quality=90)).pixels)


def test_a_jpeg_inside_may_have_an_odd_number_of_columns() -> None:
    odd = LESION.resize((121, 91))
    jpeg = encoded(odd, "JPEG", quality=90, subsampling="4:2:2")
    found = small(dicom_file(odd, jpeg=jpeg, PhotometricInterpretation="YBR_FULL_422"))
    assert np.array_equal(found.pixels, small(jpeg).pixels)


def test_an_rgb_jpeg_without_an_adobe_marker_is_not_decoded_as_ycbcr() -> None:
    # Red, green and blue in the place of luma and colour; without its JFIF segment nothing tells them apart.
    disguised = encoded(Image.merge("YCbCr", LESION.split()), "JPEG", quality=95, subsampling=0)
    jpeg = disguised[:2] + disguised[20:]
    assert not [mark for mark in (b"Adobe", b"JFIF") if mark in jpeg]
    assert (
        np.abs(small(jpeg).pixels.astype(int) - small(encoded(LESION, "PNG")).pixels.astype(int)).max() > 50
    )
    same(dicom_file(LESION, jpeg=jpeg), LESION, tolerance=12)


@pytest.mark.parametrize("jpeg", [None, encoded(LESION, "JPEG")], ids=["raw", "jpeg"])
def test_the_first_of_several_frames_is_read_and_the_others_are_reported(jpeg: bytes | None) -> None:
    one, three = dicom_file(LESION, jpeg=jpeg), dicom_file(LESION, jpeg=jpeg, frames=3)
    found = small(three)
    assert found.several_frames
    assert np.array_equal(found.pixels, small(one).pixels)


def test_burnt_in_text_is_reported() -> None:
    assert small(dicom_file(LESION, BurnedInAnnotation="YES")).burned_in
    assert not small(dicom_file(LESION, BurnedInAnnotation="NO")).burned_in


@pytest.mark.parametrize(
    "changes",
    [
        {"SOPClassUID": uid.CTImageStorage},
        {"SOPClassUID": uid.VLEndoscopicImageStorage},
        {"SOPClassUID": None},
        {"PhotometricInterpretation": "PALETTE COLOR"},
        {"PhotometricInterpretation": "YBR_PARTIAL_420"},
        {"BitsAllocated": 16, "BitsStored": 12, "HighBit": 11},
        {"PixelRepresentation": 1},
        {"syntax": uid.DeflatedExplicitVRLittleEndian},
    ],
    ids=str,
)
def test_other_objects_and_encodings_are_refused_with_a_reason(changes: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedImage, match="DICOM file"):
        decode(dicom_file(LESION, **changes))


@pytest.mark.parametrize(
    "syntax", [uid.JPEG2000Lossless, uid.JPEGLSLossless, uid.RLELossless, uid.JPEGLossless]
)
def test_other_compressions_are_refused_with_a_reason(syntax: str) -> None:
    data = dicom_file(LESION, jpeg=b"any")
    padded = syntax.encode().ljust(len(uid.JPEGBaseline8Bit), b"\0")
    data = renamed(data, uid.JPEGBaseline8Bit.encode(), padded)
    with pytest.raises(UnsupportedImage, match="transfer syntax"):
        decode(data)


def renamed(data: bytes, old: bytes, new: bytes) -> bytes:
    """Return ``data`` with an element's value replaced and all stated lengths corrected."""
    at = data.index(old)
    length = len(old) + len(old) % 2
    new += b"\0" * (len(new) % 2)
    group = int(struct.unpack_from("<L", data, 140)[0]) + len(new) - length
    return (
        data[:140] + struct.pack("<L", group) + data[144 : at - 2] + struct.pack("<H", len(new)) + new
        + data[at + length :]
    )  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"Rows": 91},
        {"Rows": 0},
        {"Rows": None},
        {"NumberOfFrames": 2},
        {"SamplesPerPixel": 1},
        {"PhotometricInterpretation": "YBR_FULL_422", "Columns": 121},
        {"jpeg": b"\xff\xd8\xff no more"},
        {"jpeg": b"II*\0 something else"},
        {"jpeg": encoded(GREY.resize((50, 50)), "JPEG")},
    ],
    ids=lambda changes: ",".join(changes),
)
def test_pixels_that_do_not_fit_the_header_are_damage(changes: dict[str, Any]) -> None:
    with pytest.raises(CorruptImage):
        decode(dicom_file(LESION, **changes))


def test_the_pixel_limit_holds_before_anything_is_decoded() -> None:
    data = dicom_file(LESION, jpeg=b"\xff\xd8\xff", Rows=60_000, Columns=60_000)
    with pytest.raises(ImageTooLarge, match="60000 x 60000"):  # not that the JPEG is damaged
        decode(data)
    with pytest.raises(ImageTooLarge):  # the JPEG is larger than the header says
        small(dicom_file(LESION, jpeg=encoded(LESION, "JPEG"), Rows=9, Columns=12), max_pixels=1000)


def test_a_dicom_file_in_a_dicom_file_is_not_entered() -> None:
    inner = dicom_file(LESION)
    with pytest.raises(CorruptImage):
        decode(dicom_file(LESION, jpeg=b"\xff\xd8\xff" + inner[3:]))


def test_the_preamble_is_ignored() -> None:
    data = dicom_file(LESION)
    for start in (b"II*\0", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"):
        same(start + data[len(start) :], LESION)


def bomb(items: int, nested: bool) -> bytes:
    """Return a file with ``items`` empty items before its pixels."""
    data = dicom_file(LESION)
    start = data.index(struct.pack("<HH2s", 8, 0x1110, b"SQ"))
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF if nested else 0)
    sequence = struct.pack("<HH2sHL", 8, 0x1110, b"SQ", 0, 0xFFFFFFFF)
    return data[:start] + ((sequence + item) * items if nested else sequence + item * items) + data[start:]


@pytest.mark.parametrize("nested", [True, False])
def test_a_file_with_too_many_items_is_refused(nested: bool) -> None:
    start = time.process_time()
    with pytest.raises(CorruptImage):
        decode(bomb(500_000, nested))
    assert time.process_time() - start < 5  # in full: a quarter of a minute and more, and a gigabyte


def test_a_file_truncated_anywhere_is_refused() -> None:
    for data in (dicom_file(LESION), dicom_file(LESION, jpeg=encoded(LESION, "JPEG"))):
        for end in range(0, len(data) - 64, 64):
            with pytest.raises(ImageError):
                small(data[:end])


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from(["raw", "jpeg", "implicit"]))
def test_a_file_with_flipped_bits_is_read_or_refused(data: st.DataObject, kind: str) -> None:
    file = bytearray(FILES[kind])
    header = len(file) - 300 if kind == "jpeg" else 1200
    for _ in range(data.draw(st.integers(1, 8))):
        file[data.draw(st.integers(132, min(header, len(file) - 1)))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        small(bytes(file))
    except ImageError as error:
        no_name_in("".join(traceback.format_exception(error)))


FILES = {
    "raw": dicom_file(LESION),
    "jpeg": dicom_file(LESION, jpeg=encoded(LESION, "JPEG")),
    "implicit": dicom_file(LESION, syntax=uid.ImplicitVRLittleEndian),
}


def no_name_in(text: str) -> None:
    assert not [secret for secret in SECRETS if secret in text]


def test_no_name_of_a_file_reaches_log_message_or_repr(caplog: pytest.LogCaptureFixture) -> None:
    data = dicom_file(LESION)
    assert all(secret.encode() in data for secret in SECRETS)
    with caplog.at_level(logging.DEBUG):
        no_name_in(repr(small(data)))
        for end in range(140, len(data) - 64, 200):
            with pytest.raises(ImageError) as caught:
                small(data[:end])
            no_name_in("".join(traceback.format_exception(caught.value)) + repr(caught.value))
    no_name_in(caplog.text)


def test_invalid_values_cause_no_warning_or_log(capfd: pytest.CaptureFixture[str]) -> None:
    # In a process of its own: here warnings are errors.
    program = (
        "import sys, logging; logging.basicConfig(level=logging.DEBUG)\n"
        "from models.preprocess import decode\n"
        "print(decode(sys.stdin.buffer.read()).format)"
    )
    data = dicom_file(LESION).replace(b"ISO_IR 100", b"Quixote 99")
    done = subprocess.run(
        [sys.executable, "-c", program], input=data, capture_output=True, cwd=ROOT, check=True, timeout=60
    )
    assert done.stdout.decode().strip() == "DICOM"
    no_name_in(done.stderr.decode())


ROOT = Path(__file__).parents[2]


def test_without_the_extra_a_dicom_file_is_refused_naming_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "pydicom"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "models.dicom", raising=False)
    monkeypatch.setitem(sys.modules, "pydicom", None)  # an import of it fails
    with pytest.raises(UnsupportedImage, match="extra 'dicom'"):
        decode(FILES["raw"])


def test_the_service_imports_without_pydicom() -> None:
    program = "import sys; sys.modules['pydicom'] = None; import service.app, models.preprocess"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=60)


def test_dicom_has_a_media_type() -> None:
    assert ACCEPTED_FORMATS["DICOM"] == "application/dicom"
