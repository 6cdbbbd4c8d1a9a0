"""The key file, the command that makes keys, and the bucket that counts images."""

import asyncio
import os
import re
import socket
import threading
from pathlib import Path

import pytest

from service.__main__ import main
from service.admission import api_keys
from service.admission.api_keys import Key, KeyRing, first_keys, line_of, new_token, parse_keys, read_keys
from service.admission.token_bucket import TokenBucket
from service.errors import SettingsError

HASH = "sha256:" + "0a" * 32
SECOND = 1_000_000_000


def problems(text: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        parse_keys(text)
    return list(caught.value.problems)


def test_a_file_has_comments_blank_lines_options_and_any_line_ends() -> None:
    other = "sha256:" + "0B" * 32
    text = f"# clinics\r\n\r\nnorth {HASH} rate=60 # until June\r\n  south-2.b\t{other} rate=1 role=admin"
    assert parse_keys(text) == (
        Key("north", bytes([10] * 32), admin=False, rate=60),
        Key("south-2.b", bytes([11] * 32), admin=True, rate=1),
    )
    assert parse_keys("# nothing\n") == ()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("north", "line 1: expected sha256: and 64 hexadecimal digits after the name"),
        (f"north {HASH}0", "line 1: expected sha256: and 64 hexadecimal digits after the name"),
        (f"north {HASH[7:]}", "line 1: expected sha256: and 64 hexadecimal digits after the name"),
        (
            f"north {HASH} role=root",
            "line 1: expected role=admin or rate=N (1 to 1000000), each once, after the hash",
        ),
        (
            f"north {HASH} rate=0",
            "line 1: expected role=admin or rate=N (1 to 1000000), each once, after the hash",
        ),
        (
            f"north {HASH} rate=1000001",
            "line 1: expected role=admin or rate=N (1 to 1000000), each once, after the hash",
        ),
        (
            f"north {HASH} rate=٣",
            "line 1: expected role=admin or rate=N (1 to 1000000), each once, after the hash",
        ),
        (
            f"north {HASH} rate=1 rate=2",
            "line 1: expected role=admin or rate=N (1 to 1000000), each once, after the hash",
        ),
        (f"a/b {HASH}", "line 1: expected first a name of 1 to 64 letters, digits, '.', '_' or '-'"),
        (f"{'n' * 65} {HASH}", "line 1: expected first a name of 1 to 64 letters, digits, '.', '_' or '-'"),
        (f"a {HASH}\na sha256:{'0b' * 32}", "line 2: the name a is used in an earlier line"),
        (
            f"a {HASH}\nb {HASH.upper().lower()}",
            "line 2: the key is in an earlier line, with another name",
        ),
    ],
)
def test_a_wrong_line_is_named_with_what_was_expected(line: str, expected: str) -> None:
    assert problems(line) == [expected]


def test_all_wrong_lines_are_told_and_what_stands_in_them_is_not() -> None:
    token = new_token()
    lines = problems(f"north {token}\n\n{token}\nsouth {HASH} {token}")
    assert [line.split(":")[0] for line in lines] == ["line 1", "line 3", "line 4"]
    assert token not in "".join(lines)


def refusal(path: Path) -> str:
    with pytest.raises(SettingsError) as caught:
        first_keys(path)
    (problem,) = caught.value.problems
    return problem


def test_a_file_that_cannot_be_used_is_refused_naming_variable_and_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    start = f"DERMASERVE_API_KEYS_FILE: {path} "
    assert refusal(path) == start + "cannot be read (No such file or directory)"
    path.write_text("# none yet\n")
    assert refusal(path) == start + "has no key; `python -m service key NAME` makes one"
    path.write_text(f"\nnorth {HASH} role=root\n")
    assert refusal(path).startswith(start + "line 2: expected role=admin")
    path.write_bytes(b"\xff\xfe")
    assert refusal(path) == start + "is not UTF-8 text"
    path.write_text("#" * 1_000_001)
    assert refusal(path) == start + "is larger than 1,000,000 bytes"
    path.write_text(f"north {HASH}\n")
    path.chmod(0o666)
    assert refusal(path) == start + "is writable by everyone; run chmod o-w on it"
    path.chmod(0o644)
    assert [key.name for key in first_keys(path)] == ["north"]


def test_neither_a_folder_nor_a_pipe_nor_a_socket_is_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe").endswith("is not a regular file")
    assert refusal(tmp_path).endswith("cannot be read (Is a directory)")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        assert refusal(tmp_path / "socket").endswith("cannot be read (No such device or address)")


def test_a_pipe_that_takes_the_place_of_the_file_at_the_last_moment_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, pipe = tmp_path / "keys", tmp_path / "pipe"
    path.write_text(f"north {HASH}\n")
    os.mkfifo(pipe)
    genuine = path.stat()
    monkeypatch.setattr(Path, "stat", lambda *_, **__: genuine)  # what was there before it was opened
    pipe.replace(path)
    problem: list[str] = []
    reader = threading.Thread(target=lambda: problem.append(refusal(path)), daemon=True)
    reader.start()
    reader.join(20)
    assert problem
    assert problem[0].endswith("is not a regular file")


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"north {HASH}", encoding="utf-8-sig")
    assert read_keys(path)[0].name == "north"


def test_tokens_have_256_random_bits_behind_a_prefix_and_only_their_hash_is_in_the_line() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    for token in tokens:
        assert re.fullmatch(r"dsk_[A-Za-z0-9_-]{43}", token)
        assert token not in line_of("north", token)


def test_only_tokens_of_our_form_are_compared(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    token = new_token()
    weak = ["", "password", token[:-1], token + "\n", token.upper()]
    path.write_text("\n".join(line_of(f"k{i}", word) for i, word in enumerate([token, *weak])))
    ring = KeyRing(path)
    assert len(ring.keys) == 6
    found = ring.find(token)
    assert found is not None
    assert found.name == "k0"
    assert [ring.find(word) for word in weak] == [None] * 5


def run_key(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int | str | None, str, str]:
    """Status, standard output and standard error of the command."""
    try:
        status: int | str | None = main(["key", *options])
    except SystemExit as error:  # argparse's way
        status = error.code
    return (status, *capsys.readouterr())


def test_a_reload_reads_what_is_there_now_although_an_earlier_reading_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keys"
    go, tokens = threading.Event(), [new_token() for _ in range(2)]
    path.write_text(line_of("old", tokens[0]))
    clock = [0.0]
    ring = KeyRing(path, lambda: clock[0])

    def hanging(path: Path) -> tuple[Key, ...]:
        found = read_keys(path)
        assert go.wait(20)
        return found

    async def run() -> None:
        clock[0] += 2
        monkeypatch.setattr(api_keys, "read_keys", hanging)
        await ring.refresh()
        monkeypatch.setattr(api_keys, "read_keys", read_keys)
        path.write_text(line_of("new", tokens[1]))
        await ring.reload()
        assert [key.name for key in ring.keys] == ["new"]
        go.set()
        await asyncio.sleep(0.2)  # the old reading ends, and changes nothing
        assert [key.name for key in ring.keys] == ["new"]

    asyncio.run(run())


def test_the_command_prints_the_line_on_one_stream_and_the_key_on_the_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run_key(capsys, "north", "--admin", "--rate", "60")
    assert status == 0
    token = err.splitlines()[-1]
    assert token not in out
    path = tmp_path / "keys"
    path.write_text(out)
    found = KeyRing(path).find(token)
    assert found is not None
    assert (found.name, found.admin, found.rate) == ("north", True, 60)


@pytest.mark.parametrize(
    "options", [["no good"], ["#north"], ["north", "--rate", "0"], ["north", "--rate", "x"]]
)
def test_the_command_prints_no_key_for_a_wrong_name_or_rate(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run_key(capsys, *options)
    assert status == 2
    assert out == ""
    assert "error: " in err
    assert "dsk_" not in err


class Clock:
    """Nanoseconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 12_345_678_901_234_567

    def __call__(self) -> int:
        return self.now


@pytest.mark.parametrize("rate", [1, 7, 60, 61, 999_983])
def test_the_wait_that_is_told_is_enough_and_a_second_less_is_not(rate: int) -> None:
    clock = Clock()
    bucket = TokenBucket(rate, 3, clock)
    for _ in range(50):
        while not (wait := bucket.take(1)):
            pass
        clock.now += wait * SECOND - SECOND
        if wait > 1:
            assert bucket.take(1) == 1
        clock.now += SECOND
        assert bucket.take(1) == 0


def test_in_the_long_run_the_rate_is_kept_exactly() -> None:
    clock = Clock()
    bucket = TokenBucket(7, 5, clock)
    taken = 0
    for _ in range(600 * 10):  # ten minutes in tenths of a second, asked three times in each
        taken += sum(bucket.take(1) == 0 for _ in range(3))
        clock.now += SECOND // 10
    assert taken == 5 + 7 * 10 - 1  # the last one comes at the end of the last tenth


def test_more_images_than_fit_pass_from_a_full_bucket_and_are_paid_for_later() -> None:
    clock = Clock()
    bucket = TokenBucket(60, 4, clock)
    assert bucket.take(10) == 0
    assert bucket.take(1) == 7  # six are owed
    clock.now += 7 * SECOND
    assert bucket.take(10) == 3  # one is there, four make it full
    assert bucket.take(1) == 0


def test_an_idle_bucket_is_full_and_not_fuller() -> None:
    clock = Clock()
    bucket = TokenBucket(60, 2, clock)
    clock.now += 10**9 * SECOND
    assert [bucket.take(1) for _ in range(3)] == [0, 0, 1]
    clock.now += 10 * SECOND
    bucket.put_back(1)
    assert [bucket.take(1) for _ in range(3)] == [0, 0, 1]


def test_what_is_refused_may_cost_a_fee_and_the_wait_says_so() -> None:
    clock = Clock()
    bucket = TokenBucket(60, 4, clock)
    assert bucket.take(2) == 0
    assert bucket.take(4, fee=1) == 3
    assert bucket.take(1, fee=1) == 0
    clock.now += 4 * SECOND
    assert bucket.take(4, fee=1) == 0
