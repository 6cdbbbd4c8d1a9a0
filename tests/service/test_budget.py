"""``Budget``: threads wait for their share, and the large one gets its turn."""

import threading
import time
from pathlib import Path

from PIL import Image

from service.budget import Budget
from service.errors import DeadlinePassed
from tests.service.conftest import encoded
from tests.service.door import running, wait_for


def test_no_more_is_out_than_there_is_and_nobody_is_overtaken() -> None:
    budget = Budget(10)
    done: list[str] = []

    def take(units: int, name: str) -> threading.Thread:
        def work() -> None:
            with budget.take(units):
                done.append(name)

        thread = threading.Thread(target=work)
        thread.start()
        return thread

    with budget.take(4):
        large = take(10, "large")
        wait_for(budget._turn.locked)  # it waits for the 4
        small = take(1, "small")
        small.join(0.05)
        assert done == []
    large.join(20)
    small.join(20)
    assert done == ["large", "small"]


def test_nobody_waits_past_a_deadline_and_those_behind_get_their_turn() -> None:
    budget = Budget(10)
    outcomes: list[str] = []

    def take(units: int, seconds: float) -> threading.Thread:
        def work() -> None:
            try:
                with budget.take(units, deadline=time.monotonic() + seconds):
                    outcomes.append("taken")
            except DeadlinePassed:
                outcomes.append("late")

        thread = threading.Thread(target=work)
        thread.start()
        return thread

    with budget.take(4):
        first = take(10, 0.2)
        wait_for(budget._turn.locked)  # it waits for the 4
        second, third = take(10, 0.1), take(6, 20)  # both wait for their turn
        for thread in (first, second, third):
            thread.join(20)
        assert outcomes == ["late", "late", "taken"]
    with budget.take(10, deadline=time.monotonic() + 20):
        pass


def test_a_failure_gives_back_what_was_taken() -> None:
    budget = Budget(1)
    for _ in range(3):
        try:
            with budget.take(1):
                raise ValueError
        except ValueError:
            pass


def test_images_of_the_largest_size_are_all_answered_one_after_the_other(tiny: Path) -> None:
    png, broken = encoded(Image.new("RGB", (300, 300), "brown"), "PNG"), b"\x89PNG\r\n\x1a\n"
    with running(tiny, max_pixels=90_000, decode_workers=4) as client:
        bodies = [png, encoded(Image.new("RGB", (300, 300)), "PNG")[:-30], broken, png] * 4
        headers = {"content-type": "image/png"}
        futures = [client.begin("POST", "/predict", content=body, headers=headers) for body in bodies]
        assert [future.result(20).status_code for future in futures] == [200, 422, 422, 200] * 4
