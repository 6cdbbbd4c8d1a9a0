"""Images that take long, and processes that die, beside ordinary images."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.service import costly_images
from tests.service.app_client import wait_for
from tests.service.decoders import wait_until_gone
from tests.service.decoding.test_decoder import Server, pool, server

__all__ = ["pool", "server"]  # fixtures


def test_images_that_take_long_leave_a_process_to_the_others(
    server: Server, jpeg: bytes, pool: ThreadPoolExecutor
) -> None:
    slow = costly_images.scans(3000, 3000, 5000)
    attacks = [pool.submit(server.predict, slow) for _ in range(6)]
    answers = 0
    while not all(attack.done() for attack in attacks):
        assert server.predict(jpeg).status_code == 200
        answers += 1
    # They wait for one another: on a busy machine the deadline of the last may pass.
    assert {attack.result().status_code for attack in attacks} <= {422, 504}
    assert server.exits("slow") > 0
    assert answers > 12  # else each waited for several of the others


def test_images_that_wait_are_answered_although_what_forks_dies_before_it_is_ready(
    tmp_path: Path, tiny: Path, jpeg: bytes, pool: ThreadPoolExecutor
) -> None:
    server = Server(tmp_path, tiny, DECODE_WORKERS=8)
    try:
        server.wait_ready()
        before = server.decoders.all
        os.kill(server.decoders.fork_server, signal.SIGKILL)
        wait_until_gone(before)
        waiting = [pool.submit(server.predict, jpeg) for _ in range(8)]
        wait_for(lambda: server.metric("dermaserve_requests_in_progress") == 8)
        for pid in server.decoders.all:
            os.kill(pid, signal.SIGKILL)
        assert [each.result(30).status_code for each in waiting] == [200] * 8
    finally:
        server.end()
