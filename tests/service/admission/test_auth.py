"""API keys in a file: what each key may do, and changes of the file while the service runs."""

import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.admission import api_keys as keys
from service.admission.api_keys import line_of
from tests.service.admission.keyed import (
    ADMIN,
    LINES,
    NORTH,
    SOUTH,
    STRANGER,
    Keyed,
    metric,
    sent,
    with_clock,
    write,
)
from tests.service.admission.test_api_keys import SECOND, Clock
from tests.service.app_client import Client, running, wait_for
from tests.service.conftest import JPEG, assert_problem

OPEN = {("get", path) for path in ("/livez", "/readyz", "/v2/health/live", "/v2/health/ready")}


@pytest.fixture(scope="module")
def guarded(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """One app with keys for all tests that leave them as they are."""
    path = write(tmp_path_factory.mktemp("keys") / "keys", *LINES)
    with running(tiny, api_keys_file=path) as door:
        yield door


@pytest.fixture
def keyed(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keyed]:
    clock = Clock()
    path = write(tmp_path / "keys", *LINES)
    with with_clock(monkeypatch, clock), running(tiny, api_keys_file=path) as door:
        yield Keyed(door, path, clock)


# Keys


def test_every_operation_but_the_probes_wants_a_key(guarded: Client) -> None:
    paths = guarded.get("/openapi.json").json()["paths"]
    operations = {(method, path) for path, item in paths.items() for method in item}
    assert operations > OPEN
    for method, path in sorted(operations):
        response = guarded.request(method, path)
        if (method, path) in OPEN:
            assert response.status_code == 200
        else:
            if path.startswith("/v2"):  # errors of the Open Inference Protocol
                assert (response.status_code, response.json()["status"]) == (401, 401)
                assert response.json()["error"] == response.json()["detail"]
            else:
                assert_problem(response, 401, "unauthorized")
            assert response.headers["www-authenticate"] == "ApiKey"
            # The empty alternative says that a service without keys asks for none.
            without: list[dict[str, list[str]]] = [] if path.startswith("/admin/") else [{}]
            assert paths[path][method]["security"] == [{"ApiKey": []}, *without]
            assert {"401"} <= set(paths[path][method]["responses"])


def test_a_head_wants_one_as_the_get_that_it_stands_for(guarded: Client) -> None:
    assert guarded.request("HEAD", "/model").status_code == 401


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/static/page.js", "/livez", "/readyz"])
def test_pages_and_probes_need_none(guarded: Client, path: str) -> None:
    assert guarded.get(path).status_code == 200


def test_a_key_in_force_is_let_in_everywhere_but_to_administration(guarded: Client, jpeg: bytes) -> None:
    headers = sent(NORTH)
    for path in ("/predict", "/gradcam"):
        assert guarded.post(path, content=jpeg, headers=JPEG | headers).status_code == 200
    assert guarded.post("/predict/batch", files={"files": jpeg}, headers=headers).status_code == 200
    for path in ("/model", "/metrics"):
        assert guarded.get(path, headers=headers).status_code == 200
    assert_problem(guarded.post("/admin/reload", headers=headers), 403, "forbidden")


def test_a_key_with_the_role_admin_may_administrate(guarded: Client) -> None:
    assert guarded.post("/admin/reload", headers=sent(ADMIN)).status_code == 200
    assert guarded.get("/model", headers=sent(ADMIN)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"x-api-key", b"")],
        [(b"x-api-key", STRANGER.encode())],
        [(b"x-api-key", NORTH[:-1].encode())],
        [(b"x-api-key", NORTH.swapcase().encode())],
        [(b"x-api-key", f"{NORTH},{NORTH}".encode())],
        [(b"x-api-key", "dsk_ключ".encode())],
        [(b"x-api-key", b"\xff\xfe\x80")],
        [(b"x-api-key", b"dsk_" + b"A" * 12_000)],
        [(b"x-api-key", NORTH.encode()), (b"x-api-key", NORTH.encode())],
        [(b"x-api-key", STRANGER.encode()), (b"x-api-key", NORTH.encode())],
        [(b"authorization", f"Bearer {NORTH}".encode())],
        [(b"cookie", f"x-api-key={NORTH}".encode())],
    ],
    ids=lambda headers: repr(headers)[:20].replace(NORTH[:6], "…").replace(STRANGER[:6], "…"),
)
def test_anything_else_is_not(guarded: Client, headers: list[tuple[bytes, bytes]]) -> None:
    assert_problem(guarded.get("/model", headers=headers), 401, "unauthorized")


@pytest.mark.parametrize("name", ["x-api-key", "api_key", "key", "X-API-Key"])
def test_a_key_in_the_address_is_not_accepted(guarded: Client, name: str) -> None:
    assert_problem(guarded.get("/model", params={name: NORTH}), 401, "unauthorized")


def test_keys_are_never_logged_wrong_ones_neither(
    guarded: Client, jpeg: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="service"):
        for token in (NORTH, STRANGER):
            guarded.post(f"/predict?key={token}", content=jpeg, headers=JPEG | sent(token))
    ours = [record for record in caplog.records if record.name.startswith("service")]
    assert ours
    for token in (NORTH, STRANGER):
        assert token not in "\n".join(str(vars(record)) for record in ours)
        assert token not in "\n".join(record.getMessage() for record in ours)


def test_refusals_and_keys_are_counted(guarded: Client) -> None:
    def count(reason: str) -> float:
        return metric(guarded, f'rejections_total{{reason="{reason}"}}', headers=sent(NORTH))

    guarded.get("/model")
    guarded.post("/admin/reload", headers=sent(NORTH))
    before = count("unauthorized"), count("forbidden")
    guarded.get("/model")
    guarded.post("/admin/reload", headers=sent(NORTH))
    assert (count("unauthorized"), count("forbidden")) == (before[0] + 1, before[1] + 1)
    assert metric(guarded, "keys", headers=sent(NORTH)) == 2


def test_without_keys_everyone_is_let_in_but_nobody_to_administration(client: Client) -> None:
    for headers in ({}, sent(STRANGER)):
        assert client.get("/model", headers=headers).status_code == 200
        assert client.get("/metrics", headers=headers).status_code == 200
        assert_problem(client.post("/admin/reload", headers=headers), 403, "forbidden")
    assert metric(client, "keys") == 0


# Rotation


def test_a_changed_file_counts_within_a_second(keyed: Keyed) -> None:
    write(keyed.path, *LINES, line_of("south", SOUTH))
    keyed.clock.now += SECOND // 2
    assert keyed.door.get("/model", headers=sent(SOUTH)).status_code == 401
    assert [keyed.status(token) for token in (NORTH, SOUTH)] == [200, 200]
    write(keyed.path, line_of("south", SOUTH))
    assert [keyed.status(token) for token in (NORTH, SOUTH)] == [401, 200]


def test_a_file_rewritten_in_place_within_one_tick_counts_as_well(keyed: Keyed) -> None:
    about = keyed.path.stat()
    keyed.path.write_text(keyed.path.read_text().replace(LINES[0], line_of("north", SOUTH)))
    os.utime(keyed.path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert keyed.path.stat().st_size == about.st_size
    assert [keyed.status(token) for token in (NORTH, SOUTH)] == [401, 200]


def test_the_gauge_of_keys_follows_the_file_without_a_request_with_a_key(keyed: Keyed) -> None:
    write(keyed.path, *LINES, line_of("south", SOUTH))
    keyed.clock.now += SECOND
    assert keyed.door.get("/metrics").status_code == 401
    (value,) = [f.samples[0].value for f in keyed.door.runtime.metrics.keys.collect()]
    assert value == 3


def test_hanging_up_reads_the_file_at_once(keyed: Keyed) -> None:
    write(keyed.path, line_of("south", SOUTH))
    keyed.door.call(keyed.door.runtime.authenticator.reload())
    assert keyed.door.get("/model", headers=sent(SOUTH)).status_code == 200


def test_a_key_file_that_cannot_be_read_now_holds_up_nobody(
    keyed: Keyed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers = threading.Event()
    real = keys.read_keys

    def hanging(path: Path) -> tuple[keys.Key, ...]:
        assert answers.wait(20)
        return real(path)

    monkeypatch.setattr(keys, "read_keys", hanging)
    monkeypatch.setattr(keys, "_READ_SECONDS", 0.05)
    write(keyed.path, line_of("south", SOUTH))
    try:
        assert [keyed.status(token) for token in (NORTH, SOUTH, NORTH)] == [200, 401, 200]
        assert keyed.door.get("/livez").status_code == 200
    finally:
        answers.set()
    wait_for(lambda: keyed.status(SOUTH) == 200)
    assert keyed.status(NORTH) == 401
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "takes more than 0.05 seconds" in errors[0]


def broken(path: Path) -> None:
    path.write_text(f"{line_of('south', SOUTH)}\nnorth {SOUTH}\n")


def half_written(path: Path) -> None:
    path.write_text(line_of("south", SOUTH)[:-1])


def writable_by_all(path: Path) -> None:
    write(path, line_of("south", SOUTH)).chmod(0o666)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [broken, half_written, writable_by_all, a_folder, Path.unlink])
def test_a_file_that_went_bad_is_reported_once_and_the_old_keys_go_on(
    keyed: Keyed, spoil: Any, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(keyed.path)
    for _ in range(3):
        assert [keyed.status(token) for token in (NORTH, SOUTH)] == [200, 401]
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert errors[0].startswith("The earlier API keys stay valid: DERMASERVE_API_KEYS_FILE: ")
    assert SOUTH not in errors[0]
    if keyed.path.is_dir():
        keyed.path.rmdir()
    write(keyed.path, line_of("south", SOUTH))
    assert [keyed.status(token) for token in (NORTH, SOUTH)] == [401, 200]


def test_a_file_that_is_empty_while_it_is_written_rejects_nobody(
    keyed: Keyed, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyed.path.write_text("")
    monkeypatch.setattr("service.admission.api_keys.time.sleep", lambda _: write(keyed.path, *LINES))
    assert keyed.status(NORTH) == 200


def test_a_file_without_keys_lets_nobody_in(keyed: Keyed, caplog: pytest.LogCaptureFixture) -> None:
    write(keyed.path, "# none")
    assert [keyed.status(token) for token in (NORTH, ADMIN, "")] == [401, 401, 401]
    assert_problem(keyed.door.post("/admin/reload"), 401, "unauthorized")
    assert "has no keys now" in caplog.text
    write(keyed.path, *LINES)
    assert keyed.status(NORTH) == 200
