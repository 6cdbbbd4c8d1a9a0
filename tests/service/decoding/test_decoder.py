"""Images are decoded in processes of their own: costly files, processes that die, a server that ends."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.dicom_files import dicom_file
from tests.service import costly_images
from tests.service.app_client import wait_for
from tests.service.conftest import JPEG
from tests.service.decoders import Decoders, lives, named, peak_memory, proportional, tree, wait_until_gone
from tests.service.process import Process
from tests.synthetic import encoded

MAX_PIXELS = 10_000_000
PLAN = 250_000_000 + 2 * 64_000_000 + 17 * MAX_PIXELS + 3 * 20_000_000
"""Bytes, as docs/operations.md plans: the service, two processes, the largest image; and a body's copies."""


class Server(Process):
    """A process that can be asked while it is watched."""

    def predict(self, data: bytes, timeout: float = 60) -> httpx.Response:
        return httpx.post(self.url + "/predict", content=data, headers=JPEG, timeout=timeout)

    def metric(self, sample: str) -> float:
        lines = httpx.get(self.url + "/metrics").text.splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(sample)), 0.0)

    def exits(self, reason: str) -> float:
        return self.metric(f'dermaserve_decoder_exits_total{{reason="{reason}"}}')

    @property
    def decoders(self) -> Decoders:
        return Decoders(self.process.pid)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("decoder")
    server = Server(folder, tiny, DECODE_WORKERS=2, DECODE_TIMEOUT=1, MAX_PIXELS=MAX_PIXELS)
    try:
        server.wait_ready()
        yield server
    finally:
        server.end()


@pytest.fixture
def single(tmp_path: Path, tiny: Path) -> Iterator[Server]:
    """One process decodes: which it is, is known before the image is sent."""
    options = {"start_new_session": True}
    server = Server(tmp_path, tiny, options=options, DECODE_WORKERS=1, REQUEST_TIMEOUT=20, STUCK_AFTER=60)
    try:
        server.wait_ready()
        yield server
    finally:
        server.end()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def in_work(server: Server) -> None:
    """Return when a request is inside, and its image at the process that decodes."""
    wait_for(lambda: server.metric("dermaserve_requests_in_progress") == 1)
    wait_for(lambda: server.metric("dermaserve_receive_duration_seconds_count") >= 1)


@pytest.mark.parametrize("kind", ["strips", "rationals", "segments", "scans"])
def test_a_costly_file_takes_no_more_than_planned_and_its_neighbours_lose_nothing(
    server: Server, jpeg: bytes, pool: ThreadPoolExecutor, kind: str
) -> None:
    hostile = {
        "strips": lambda: costly_images.strips(9_990_000),
        "rationals": lambda: costly_images.rationals(2_400_000),
        "segments": lambda: costly_images.segments(jpeg, 4_900_000),
        "scans": lambda: costly_images.scans(3000, 3000, 5000),
    }[kind]()
    assert len(hostile) <= 20_000_000
    right = pytest.approx(server.predict(jpeg).json()["probabilities"], abs=1e-6)
    with peak_memory(server.process.pid) as peak:
        attack = pool.submit(server.predict, hostile)
        answers = [server.predict(jpeg)]
        while not attack.done():
            answers.append(server.predict(jpeg))
    # A file of many segments or fractions may be answered where it costs little.
    assert attack.result().status_code in ({422} if kind in ("strips", "scans") else {200, 422})
    assert all(answer.json()["probabilities"] == right for answer in answers)
    assert 0 < peak() < PLAN
    assert server.metric("dermaserve_memory_bytes") > sum(proportional(pid) for pid in server.decoders.all)
    assert server.status("/readyz") == 200
    assert server.predict(jpeg).status_code == 200


def test_an_image_that_takes_too_long_is_422_and_its_process_is_replaced(
    tmp_path: Path, tiny: Path, jpeg: bytes
) -> None:
    large = encoded(Image.effect_noise((4000, 4000), 50), "PNG")
    server = Server(tmp_path, tiny, DECODE_WORKERS=1, DECODE_TIMEOUT=0.03)
    try:
        server.wait_ready()
        refused = server.predict(large)
        assert refused.status_code == 422
        assert refused.json()["type"] == "urn:dermaserve:problem:image-too-costly"
        assert "0.03 s of processor time" in refused.json()["detail"]
        assert server.predict(jpeg).status_code == 200
        assert server.exits("timeout") == 1
        batch = [("files", large), ("files", jpeg)]
        results = httpx.post(server.url + "/predict/batch", files=batch, timeout=60).json()["results"]
        assert [result.get("status") for result in results] == [422, None]
    finally:
        server.end()


@pytest.mark.parametrize(
    ("number", "status", "reason"), [(signal.SIGKILL, 503, "killed"), (signal.SIGSEGV, 422, "crashed")]
)
def test_a_process_that_dies_fails_its_image_only(
    single: Server, jpeg: bytes, pool: ThreadPoolExecutor, number: int, status: int, reason: str
) -> None:
    with single.decoders.stopped():
        held = pool.submit(single.predict, jpeg)
        in_work(single)
        waiting = pool.submit(single.predict, jpeg)
        single.decoders.send(number)
    assert held.result(20).status_code == status, held.result().text
    assert ("retry-after" in held.result().headers) == (status == 503)
    assert waiting.result(20).status_code == 200
    assert single.exits(reason) == 1


def test_nobody_notices_an_idle_process_that_dies(single: Server, jpeg: bytes) -> None:
    for each in (single.decoders.decoding, [single.decoders.fork_server]):
        for pid in each:
            os.kill(pid, signal.SIGKILL)
        wait_until_gone(each)
        assert single.predict(jpeg).status_code == 200
    assert len(single.decoders.decoding) == 1


@pytest.mark.parametrize("fork_server", [False, True], ids=["one decodes", "and cannot be killed"])
def test_who_goes_away_leaves_nothing_behind(single: Server, jpeg: bytes, fork_server: bool) -> None:
    before = single.decoders.decoding
    with single.decoders.stopped(fork_server=fork_server):
        with pytest.raises(httpx.ReadTimeout):
            single.predict(jpeg, timeout=0.5)
        wait_for(lambda: single.metric("dermaserve_requests_in_progress") == 0)
    assert single.predict(jpeg).status_code == 200
    wait_until_gone(before)
    assert single.exits("cancelled") == 1


def test_an_image_that_is_not_decoded_in_time_is_504_and_the_next_one_is_answered(
    tmp_path: Path, tiny: Path, jpeg: bytes, pool: ThreadPoolExecutor
) -> None:
    server = Server(tmp_path, tiny, DECODE_WORKERS=1, REQUEST_TIMEOUT=0.5)
    try:
        server.wait_ready()
        with server.decoders.stopped(fork_server=True):
            late = [pool.submit(server.predict, jpeg) for _ in range(3)]
            assert [each.result(20).status_code for each in late] == [504] * 3
        assert server.predict(jpeg).status_code == 200
        assert server.metric("dermaserve_decode_duration_seconds_count") == 2  # the first, and the last
    finally:
        server.end()


def test_decoding_that_hangs_fails_both_probes_until_it_goes_on(
    tmp_path: Path, tiny: Path, jpeg: bytes, pool: ThreadPoolExecutor
) -> None:
    server = Server(tmp_path, tiny, DECODE_WORKERS=1, STUCK_AFTER=0.3)
    try:
        server.wait_ready()
        with server.decoders.stopped():
            held = pool.submit(server.predict, jpeg)
            wait_for(lambda: server.status("/readyz") == 503)
            assert server.status("/livez") == 503
        assert held.result(20).status_code == 200
        wait_for(lambda: server.status("/readyz") == 200)
    finally:
        server.end()


def test_a_drain_loses_no_image_that_is_being_decoded(
    single: Server, jpeg: bytes, pool: ThreadPoolExecutor
) -> None:
    decoders = single.decoders.all
    with single.decoders.stopped():
        held = pool.submit(single.predict, jpeg)
        in_work(single)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):  # as to all of a container
            for pid in decoders:
                os.kill(pid, number)
        os.killpg(single.process.pid, signal.SIGTERM)
        wait_for(lambda: single.status("/readyz") != 200)
    assert held.result(20).status_code == 200
    assert single.process.wait(20) == 0, single.output()
    wait_until_gone(decoders)


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "decoding"])
def test_no_process_outlives_a_service_that_is_killed(
    single: Server, jpeg: bytes, pool: ThreadPoolExecutor, busy: bool
) -> None:
    decoders = single.decoders.all
    assert len(decoders) == 2

    def send() -> None:
        with suppress(httpx.TransportError):
            single.predict(jpeg)

    if busy:
        for pid in single.decoders.decoding:
            os.kill(pid, signal.SIGSTOP)
        pool.submit(send)
        in_work(single)
    single.process.kill()
    wait_until_gone(decoders)


def test_what_decodes_holds_neither_secrets_nor_listeners_and_writes_no_files(server: Server) -> None:
    inside = server.decoders.all
    assert len(inside) >= 2
    for pid in inside:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"DERMASERVE" not in environment
        links = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
        assert {link.partition(":")[0] for link in links} <= {"/dev/null", "socket"}
        assert sum(link.startswith("socket") for link in links) == 1
        if named(pid, "decoder"):
            limits = Path(f"/proc/{pid}/limits").read_text()
            for name in ("Max core file size", "Max file size"):
                line = next(line for line in limits.splitlines() if line.startswith(name))
                assert line.removeprefix(name).split()[:2] == ["0", "0"]


def test_files_that_pillow_warns_of_leave_no_line_in_the_log(server: Server, lesion: Image.Image) -> None:
    wide = encoded(Image.new("1", (9000, 10_001)), "PNG")  # a decompression bomb to Pillow, but not a big one
    odd = costly_images.rationals(10)
    before = server.output()
    assert [server.predict(each).status_code for each in (wide, odd)] == [413, 200]
    lines = [line for line in server.output().removeprefix(before).splitlines() if '"route"' not in line]
    assert lines == []


def test_dicom_files_without_the_extra_are_refused_each_and_their_neighbours_are_answered(
    tmp_path: Path, tiny: Path, jpeg: bytes, lesion: Image.Image, pool: ThreadPoolExecutor
) -> None:
    (tmp_path / "pydicom.py").write_text("raise ModuleNotFoundError(name='pydicom')")
    dicom = dicom_file(lesion)
    path = {"PYTHONPATH": str(tmp_path)}
    server = Server(tmp_path, tiny, options={"env": path}, DECODE_WORKERS=2, DRAIN_PAUSE=0)
    try:
        server.wait_ready()
        batch = [("files", each) for each in (dicom, jpeg) * 8]

        def send(_: int) -> list[int | None]:
            response = httpx.post(server.url + "/predict/batch", files=batch, timeout=60)
            return [result.get("status") for result in response.json()["results"]]

        assert list(pool.map(send, range(4))) == [[415, None] * 8] * 4
    finally:
        server.end()


def test_large_images_wait_for_one_another_and_hold_up_no_small_one(
    tmp_path: Path, tiny: Path, jpeg: bytes, pool: ThreadPoolExecutor
) -> None:
    """The first large image stays in its process until the small ones are answered by the other one."""
    program = (
        "import asyncio, pathlib, sys, service.decoding.decoder as d\n"
        "from service.decoding.fork_server import Process\n"
        "d.SMALL, decode = 4_000_000, Process.decode\n"
        "async def held(process, order):\n"
        "    while order.memory > d.SMALL and not pathlib.Path(GO).exists():\n"
        "        await asyncio.sleep(0.01)\n"
        "    return await decode(process, order)\n"
        "Process.decode = held\n"
        "from service.__main__ import main\n"
        "sys.exit(main([]))"
    )
    go = tmp_path / "go"
    program = program.replace("GO", repr(str(go)))
    large = encoded(Image.effect_noise((2000, 2000), 50), "PNG")
    server = Server(tmp_path, tiny, program=program, DECODE_WORKERS=2)
    try:
        server.wait_ready()
        held = [pool.submit(server.predict, large) for _ in range(6)]
        wait_for(lambda: server.metric("dermaserve_requests_in_progress") == 6)
        for _ in range(50):
            assert server.predict(jpeg, timeout=20).status_code == 200
        assert not any(future.done() for future in held)
        go.touch()
        assert [future.result().status_code for future in held] == [200] * 6
    finally:
        server.end()


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_large_images_of_every_format_are_answered_and_damaged_ones_refused(
    server: Server, format_: str
) -> None:
    colours = Image.linear_gradient("L").resize((3000, 3000)).convert("RGBA" if format_ == "PNG" else "RGB")
    known: dict[str, dict[str, Any]] = {"WEBP": {"method": 0}, "TIFF": {"compression": "tiff_lzw"}}
    if format_ == "BMP":
        colours = colours.resize((2000, 2000))
    data = encoded(colours, format_, **known.get(format_, {}))
    assert server.predict(data).status_code == 200
    refused = server.predict(data[: len(data) // 2])
    assert refused.status_code == 422
    assert refused.json()["type"] == "urn:dermaserve:problem:corrupt-image"


@pytest.mark.parametrize(
    "keep", [lambda data: data[:-20_000], lambda data: data[:40_000] + b"x" * 40_000, lambda data: data[:60]]
)
def test_a_damaged_image_of_nearly_the_largest_size_is_called_damaged(
    tmp_path: Path, tiny: Path, keep: Callable[[bytes], bytes]
) -> None:
    server = Server(tmp_path, tiny, DECODE_TIMEOUT=10, MAX_PIXELS=20_000_000)
    try:
        server.wait_ready()
        image = encoded(Image.new("RGB", (6000, 3300), (9, 90, 200)), "PNG")
        assert server.predict(image).status_code == 200
        refused = server.predict(keep(image))
    finally:
        server.end()
    assert refused.status_code == 422
    assert refused.json()["type"] == "urn:dermaserve:problem:corrupt-image"


def test_ended_processes_are_no_zombies(server: Server, jpeg: bytes) -> None:
    server.predict(costly_images.scans(3000, 3000, 5000))
    server.predict(jpeg)
    assert all(lives(pid) for pid in tree(server.process.pid))
    assert threading.active_count() < 20
