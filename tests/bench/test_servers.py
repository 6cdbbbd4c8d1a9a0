import os
import sys
from pathlib import Path

import psutil
import pytest

from bench.processes import cpu_seconds, family, is_alive, usage
from bench.servers import Server, ServerError, free_port

# Two processes, one in a session of its own; the second listens.
PROGRAM = """
import http.server, subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/ready" else 404)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def server(folder: Path, program: str, *, ready_path: str = "/ready", timeout: float = 30.0) -> Server:
    port = free_port()
    command = [sys.executable, "-c", program, str(port)]
    return Server(command, port=port, ready_path=ready_path, log=folder / "log", timeout=timeout)


def test_a_server_is_seen_with_all_its_processes_and_stopped_with_them(tmp_path: Path) -> None:
    with server(tmp_path, PROGRAM) as running:
        assert running.ready_after > 0
        found = running.usage()
        members = family(running.leader)
        assert found.processes == len(members) == 2
        assert found.rss >= found.pss > 1_000_000
        assert cpu_seconds(running.leader) > 0
        assert 0 <= running.idle_cpu(0.1) < 2
    psutil.wait_procs(members, timeout=10)
    assert not any(is_alive(process) for process in members)


def test_the_error_of_a_server_that_ends_quotes_its_output(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"ended with 3: .*no model here"):
        server(tmp_path, "import sys; print('no model here'); sys.exit(3)").__enter__()


def test_a_server_that_never_gets_ready_is_stopped(tmp_path: Path) -> None:
    never = server(tmp_path, PROGRAM, ready_path="/other", timeout=0.5)
    with pytest.raises(ServerError, match="not ready after"):
        never.__enter__()
    with pytest.raises(ServerError, match="has not been started"):
        never.usage()


def test_a_program_that_is_not_there_is_an_error_of_the_server(tmp_path: Path) -> None:
    missing = Server([str(tmp_path / "python")], port=1, ready_path="/", log=tmp_path / "log")
    with pytest.raises(ServerError, match="cannot be started"):
        missing.__enter__()


def test_this_process_uses_memory_and_one_that_is_gone_uses_none() -> None:
    own = psutil.Process()
    assert own in family(os.getpid())
    assert is_alive(own)
    assert usage(os.getpid()).rss > 1_000_000
    assert usage(2**22 + 1).processes == 0
