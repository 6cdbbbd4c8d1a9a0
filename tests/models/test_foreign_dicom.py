"""DICOM files written by other software, and files whose encoding contradicts their header."""

import io
import re
import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.pixels.utils import pixel_array

from models.errors import UnsupportedImage
from tests.models.test_dicom import FILES, small
from tests.synthetic import encoded

FOREIGN = sorted(Path(pydicom.__file__).parent.glob("data/test_files/SC_*.dcm"))
"""Written by other software: they come with pydicom."""


@pytest.mark.parametrize("file", FOREIGN, ids=lambda file: file.stem)
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_files_of_other_software_look_as_pydicom_decodes_them(file: Path) -> None:
    try:
        found = small(file.read_bytes())
    except UnsupportedImage:
        assert re.search("jls|rle|_KY|jpeg_gdcm|big_endian", file.stem)
        return
    # Read first: of SC_rgb_jpeg the elements are not encoded as its header says.
    expected = small(encoded(Image.fromarray(pixel_array(pydicom.dcmread(file), index=0)), "PNG"))
    assert np.abs(found.pixels.astype(int) - expected.pixels.astype(int)).max() <= 1


def test_some_files_of_other_software_are_read() -> None:
    assert len(FOREIGN) > 20
    assert "SC_rgb_jpeg" in {file.stem for file in FOREIGN}


@pytest.mark.parametrize("kind", ["raw", "jpeg"])
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_elements_without_the_types_that_the_header_promises_are_read(kind: str) -> None:
    """As highdicom 0.1 wrote them: the header says explicit, the elements are implicit."""
    file = FILES[kind]
    found = small(without_types(file))
    np.testing.assert_array_equal(found.pixels, small(file).pixels)


def without_types(file: bytes) -> bytes:
    """Return ``file`` with the elements after group 2 in implicit little endian, its header unchanged."""
    start = 144 + struct.unpack_from("<L", file, 140)[0]
    dataset = pydicom.dcmread(io.BytesIO(file))
    body = DicomBytesIO()
    body.is_little_endian, body.is_implicit_VR = True, True
    write_dataset(body, dataset)
    return file[:start] + body.getvalue()
