"""The limit's own parts; the whole of it runs in ``test_bench``."""

import threading
import time

import numpy as np

from bench.limit import working_beside

PIXELS = np.zeros((2, 2, 3), np.uint8)


def test_for_each_image_a_thread_works_as_long_as_it_is_told() -> None:
    before, cpu = threading.active_count(), time.process_time()
    with working_beside(lambda: PIXELS, 0.02) as source:
        for _ in range(10):
            assert source() is PIXELS
            time.sleep(0.05)
        assert threading.active_count() == before + 1
        assert time.process_time() - cpu >= 0.15
    assert threading.active_count() == before


def test_work_that_is_not_done_at_the_end_is_left() -> None:
    with working_beside(lambda: PIXELS, 0.05) as source:
        for _ in range(200):
            source()
        start = time.perf_counter()
    assert time.perf_counter() - start < 5  # not 10
