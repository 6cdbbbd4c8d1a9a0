"""The page when something fails: its messages, and what the reader can do."""

import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.browser.visitor import ENTER, Visitor
from tests.service.app_client import wait_for
from tests.service.decoders import Decoders
from tests.service.process import Process, process

ULID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")


def test_a_file_that_is_not_an_image_gets_the_problem_of_the_service(
    visitor: Visitor, server: Process, tmp_path: Path, lesion: Path
) -> None:
    text = tmp_path / "letter.txt"
    text.write_text("Dear colleague")
    visitor.visit(server.url)
    visitor.choose(lesion)
    visitor.wait_for_result()
    visitor.choose(text)
    visitor.wait_for_trouble()
    assert "not an image of an accepted format" in visitor.reads("#trouble-detail")
    assert ULID.fullmatch(visitor.reads("#trouble-id"))
    visitor.wait_for(lambda: visitor.reads("#trouble-id") in server.output())
    assert not visitor.sees("#result"), "an old answer must not stand beside a new question"
    assert not visitor.sees("#again"), "the same file would fail again"
    assert visitor.focused() == "trouble-title"
    visitor.choose(lesion)
    visitor.wait_for_result()
    assert not visitor.sees("#trouble")


def test_a_stopped_service_is_reported_and_can_be_retried(
    visitor: Visitor, tiny: Path, lesion: Path, tmp_path: Path
) -> None:
    with process(tmp_path, tiny) as server:
        server.wait_ready()
        visitor.visit(server.url)
        visitor.wait_for(lambda: visitor.reads("#model"))
    visitor.choose(lesion)
    visitor.wait_for_trouble()
    assert "cannot be reached" in visitor.reads("#trouble")
    assert not visitor.sees("#trouble-quote")
    with process(tmp_path, tiny, port=server.port) as server:
        server.wait_ready()
        visitor.find("#again").click()
        visitor.wait_for_result()


def test_an_overloaded_service_says_when_to_retry_and_the_button_waits(
    visitor: Visitor, tiny: Path, lesion: Path, tmp_path: Path
) -> None:
    with process(tmp_path, tiny, MAX_QUEUE_SIZE=1) as server:
        server.wait_ready()
        visitor.visit(server.url)
        visitor.wait_for(lambda: visitor.reads("#model"))
        with Decoders(server.process.pid).stopped(), ThreadPoolExecutor(1) as other:
            # Somebody else's image, which is not decoded meanwhile, takes the only place.
            other.submit(httpx.post, server.url + "/predict", files={"file": lesion.read_bytes()}, timeout=60)
            wait_for(lambda: "requests_in_progress 1.0" in httpx.get(server.url + "/metrics").text)
            visitor.choose(lesion)
            visitor.wait_for_trouble()
            assert "its limit of requests in progress" in visitor.reads("#trouble-detail")
            assert re.fullmatch(r"Try again( in \d+ s)?", visitor.reads("#again"))
        visitor.wait_for(lambda: visitor.find("#again").is_enabled())
        assert visitor.reads("#again") == "Try again"
        visitor.find("#again").click()
        visitor.wait_for_result()


def test_a_rate_limited_visitor_sees_how_long_to_wait(
    visitor: Visitor, tiny: Path, lesion: Path, tmp_path: Path
) -> None:
    with process(tmp_path, tiny, RATE_LIMIT=1, RATE_BURST=1) as server:
        server.wait_ready()
        visitor.visit(server.url)
        visitor.choose(lesion)
        visitor.wait_for_result()
        explained = visitor.find("#class").get_property("value")
        visitor.find("#class option:not(:checked)").click()
        visitor.wait_for_trouble()
        assert re.fullmatch(r"Try again in [2-6]\d s", visitor.reads("#again"))
        assert not visitor.find("#again").is_enabled()
        assert visitor.sees("#result"), "what was answered still holds"
        assert visitor.find("#class").get_property("value") == explained, "and names its picture"


def test_the_page_asks_for_a_key_and_does_not_store_it(
    visitor: Visitor, tiny: Path, lesion: Path, tmp_path: Path, key_file: tuple[Path, str]
) -> None:
    path, token = key_file
    with process(tmp_path, tiny, API_KEYS_FILE=path) as server:
        server.wait_ready()
        visitor.visit(server.url)
        visitor.wait_for_trouble()
        assert visitor.focused() == "key"
        for wrong in ("dsk_" + "x" * 43, "no key at all"):
            visitor.press(wrong + ENTER)
            visitor.wait_for(lambda: visitor.sees("#trouble") and visitor.focused() == "key")
            assert "key" in visitor.reads("#trouble-detail").lower()
        visitor.press(token + ENTER)
        visitor.wait_for(lambda: visitor.reads("#model"))
        assert not visitor.sees("#trouble")
        visitor.choose(lesion)
        visitor.wait_for_result()
        assert visitor.js("return [localStorage.length, sessionStorage.length, document.cookie]") == [
            0,
            0,
            "",
        ]
        assert token not in visitor.js("return document.documentElement.outerHTML")
        assert token not in server.output()
        visitor.visit(server.url)
        visitor.wait_for_trouble()
        assert visitor.sees("#key")


def test_an_upload_can_be_cancelled_or_replaced(
    visitor: Visitor, server: Process, lesion: Path, tmp_path: Path
) -> None:
    text = tmp_path / "letter.txt"
    text.write_text("Dear colleague")
    visitor.visit(server.url)
    visitor.wait_for(lambda: visitor.reads("#model"))
    os.kill(server.process.pid, signal.SIGSTOP)  # so that no answer is too quick for a second thought
    try:
        visitor.choose(lesion)
        visitor.wait_for(lambda: visitor.sees("#progress"))
        assert visitor.reads("#status")
        visitor.find("#cancel").click()
        visitor.wait_for(lambda: not visitor.sees("#work"))
        assert visitor.reads("#status") == "Cancelled."
        visitor.choose(text)
        visitor.wait_for(lambda: visitor.sees("#progress"))
        visitor.choose(lesion)
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    visitor.wait_for_result()
    assert not visitor.sees("#trouble"), "nobody waits for the answer about the first file"


def test_anything_but_files_is_refused_with_a_message(visitor: Visitor, server: Process) -> None:
    visitor.visit(server.url)
    visitor.wait_for(lambda: visitor.reads("#model"))
    visitor.js(
        "const data = new DataTransfer(); data.setData('text/plain', 'a lesion');"
        "document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true}))"
    )
    assert "not a file" in visitor.reads("#status")
    visitor.js("document.body.dispatchEvent(new ClipboardEvent('paste', {clipboardData: new DataTransfer(),"
               " bubbles: true}))")  # fmt: skip
    assert "clipboard" in visitor.reads("#status")
