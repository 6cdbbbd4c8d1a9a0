"""Confusing multipart bodies get a quick response, and the next good request succeeds."""

import pytest

from tests.service.app_client import Client
from tests.service.conftest import assert_problem

FILE = b'Content-Disposition: form-data; name="file"'
OTHER = b'Content-Disposition: form-data; name="other"'

pytestmark = pytest.mark.usefixtures("next_is_answered")


def part(headers: bytes, content: bytes) -> bytes:
    return b"--x\r\n" + headers + b"\r\n\r\n" + content + b"\r\n"


def nested(levels: int, content: bytes) -> bytes:
    """Build nested multipart bodies."""
    for level in range(levels):
        head = b"--in%d\r\nContent-Type: multipart/mixed; boundary=in%d\r\n\r\n" % (level, level - 1)
        content = head + content + b"\r\n--in%d--\r\n" % level
    return content


@pytest.mark.parametrize(
    ("parts", "detail"),
    [
        (part(OTHER, b"b") * 10_000, "more than 40 parts"),
        (part(FILE, b"b") * 10_000, "more than 32 images"),
        (part(FILE + b"".join(b"\r\nA%d: b" % n for n in range(1000)), b"b"), "malformed"),
        (part(FILE + b"\r\nA: " + b"b" * 1_000_000, b"b"), "malformed"),
        (part(b"A" * 1_000_000 + b": b", b"b"), "malformed"),
        (part(FILE, b"a") + part(FILE, b"b"), "got several"),
        (part(FILE, b"") + part(FILE, b"b"), "empty"),
        (
            part(FILE + b'; name="other"', b"b"),
            "no part named",
        ),  # which of the two names is not for us to say
        (part(FILE + b"\r\n" + OTHER, b"b"), "no part named"),
        (part(b"Content-Disposition: form-data; name*=UTF-8''file", b"b"), "no part named"),
        (b"preamble\n" + part(FILE, b"b"), "no part named"),  # the boundary does not begin a line
        (part(FILE, b"b").replace(b"\r\n", b"\n"), "malformed"),
    ],
)
def test_forms_that_are_too_large_or_ambiguous_are_422(client: Client, parts: bytes, detail: str) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x"}
    response = client.post("/predict", content=parts + b"--x--\r\n", headers=headers)
    assert_problem(response, 422, "invalid-request")
    assert detail in response.json()["detail"]


def test_nested_multipart_bodies_are_not_parsed(client: Client, jpeg: bytes) -> None:
    inner = nested(200, jpeg)
    body = part(FILE + b"\r\nContent-Type: multipart/mixed; boundary=in199", inner) + b"--x--\r\n"
    headers = {"content-type": "multipart/form-data; boundary=x"}
    assert_problem(client.post("/predict", content=body, headers=headers), 415, "unsupported-image")


@pytest.mark.parametrize(
    "filename",
    [
        b'; filename="../../../etc/passwd"',
        b'; filename="C:\\x\\y.jpg"',
        b'; filename="a\0.jpg"',
        b'; filename="a\r\nX: y"',
        b'; filename="a%0d%0aX-Injected: y"',
        b"; filename*=UTF-8''%e2%82%ac%00.jpg",
        b"; filename*=nocharset'%ff",
        b'; filename="' + b"n" * 800 + b'"',
        b"; filename=",
        b"; filename",
    ],
)
def test_file_names_do_not_matter(client: Client, jpeg: bytes, filename: bytes) -> None:
    body = part(FILE + filename, jpeg) + b"--x--\r\n"
    headers = {"content-type": "multipart/form-data; boundary=x"}
    response = client.post("/predict", content=body, headers=headers)
    assert response.status_code == 200, response.text
    assert "x-injected" not in response.headers


@pytest.mark.parametrize(
    ("boundary", "header"),
    [
        (b"y" * 70, b"y" * 70),
        (b"y" * 200, b"y" * 200),  # over the 70 of RFC 2046, but which one it is is plain
        (b"a b:c/?;d", b'"a b:c/?;d"'),
        (b"--", b"--"),
        (b"'()+_,-./:=?", b'"\'()+_,-./:=?"'),
        (b"\xe4", b"\xe4"),
        ("☃".encode(), "☃".encode()),
    ],
)
def test_unusual_boundaries_are_accepted(client: Client, jpeg: bytes, boundary: bytes, header: bytes) -> None:
    body = b"--" + boundary + b"\r\n" + FILE + b"\r\n\r\n" + jpeg + b"\r\n--" + boundary + b"--\r\n"
    headers = {b"content-type": b"multipart/form-data; boundary=" + header}
    assert client.post("/predict", content=body, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "header", [b"", b'""', b'"', b"; boundary=y", b"y", b'"x', b"x; boundary=y", b"%78", b"y" * 8000]
)
def test_a_boundary_that_is_not_in_the_body_is_422(client: Client, jpeg: bytes, header: bytes) -> None:
    headers = {b"content-type": b"multipart/form-data; boundary=" + header}
    response = client.post("/predict", content=part(FILE, jpeg) + b"--x--\r\n", headers=headers)
    assert_problem(response, 422, "invalid-request")


def test_a_preamble_and_an_epilogue_are_ignored(client: Client, jpeg: bytes) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x"}
    for body in (
        part(FILE, jpeg) + b"--x--\r\n" + b"z" * 1000,
        b"a preamble\r\n" + part(FILE, jpeg) + b"--x--\r\n",  # RFC 2046, 5.1.1
        b"--X\r\n-" * 50_000 + b"\r\n" + part(FILE, jpeg) + b"--x--\r\n",
        b"\r\n" * 100_000 + part(FILE, jpeg) + b"--x--",
    ):
        assert client.post("/predict", content=body, headers=headers).status_code == 200
