"""Runs Docker, and the containers of docker-compose.yml under a separate project name."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.deploy.monitoring import ROOT
from tests.service.process import free_port

BUILD_OPTIONS = os.environ.get("DOCKER_BUILD_OPTIONS", "").split()
"""Options such as ``--network=host``, if containers cannot reach a package index."""

ALONE = ("docker", "run", "--rm", "--network", "none", "dermaserve")
"""Options of a short-lived container. Without arguments it would serve."""

Done = subprocess.CompletedProcess[str]


def run(*command: str, check: bool = True, timeout: float = 120, **options: Any) -> Done:
    """Run a command in the root of the repository. Fail with its output."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, **options)
    assert not check or done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


def has_compose_2() -> bool:
    return run("docker", "compose", "version", check=False).returncode == 0


class Stack:
    """The containers, with free ports on this machine and keys in ``folder``."""

    def __init__(self, folder: Path, **variables: str) -> None:
        """``variables`` are those of docker-compose.yml."""
        self.keys = folder / "keys.txt"
        folder.chmod(0o755)  # the service runs as another user
        self.ports = {name: free_port() for name in ("PORT", "PROMETHEUS_PORT", "GRAFANA_PORT")}
        self._compose = ["docker", "compose"] if has_compose_2() else ["docker-compose"]
        self._environment = {
            **os.environ,
            **{name: str(port) for name, port in self.ports.items()},
            "COMPOSE_PROJECT_NAME": f"dermaserve-test-{os.getpid()}",
            "KEYS_DIR": str(folder),
            **variables,
        }

    def variable(self, name: str) -> str:
        return self._environment[name]

    def url(self, port: str = "PORT") -> str:
        return f"http://127.0.0.1:{self.ports[port]}"

    def compose(self, *arguments: str, keys: str | None = "", **options: Any) -> Done:
        """docker compose; ``keys`` names another folder of keys, and None none."""
        environment = self._environment | ({"KEYS_DIR": keys} if keys else {})
        if keys is None:
            del environment["KEYS_DIR"]
        return run(*self._compose, *arguments, env=environment, **options)

    def shell(self, commands: str, **options: Any) -> Done:
        """Run commands of a document, which are written for Compose 2."""
        written = commands.replace("docker compose", " ".join(self._compose))
        return run("sh", "-euc", written, env=self._environment, **options)

    def container(self, service: str) -> str:
        """Return its id, even if it is stopped."""
        return self.compose("ps", "-q", "-a", service).stdout.strip()

    def containers(self, service: str) -> list[str]:
        """Return the ids of all its replicas that run."""
        return self.compose("ps", "-q", service).stdout.split()

    def inspect(self, service: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = json.loads(run("docker", "inspect", self.container(service)).stdout)
        return found[0]

    def python(self, code: str) -> Done:
        """Run Python in the container of the service."""
        return self.compose("exec", "-T", "service", "python", "-c", code, check=False)

    def requests(self) -> list[dict[str, Any]]:
        """Return the log lines of requests."""
        lines = run("docker", "logs", self.container("service")).stderr.splitlines()
        return [line for line in map(json.loads, lines) if line["event"] == "request"]

    def new_key(self, name: str) -> str:
        """Create a key with the image, and add its line to the file in one step."""
        made = run(
            "docker", "run", "--rm", "--network", "none", "dermaserve", "python", "-m", "service", "key", name
        )
        before = self.keys.read_text() if self.keys.exists() else ""
        self.replace_keys(before + made.stdout)
        return made.stderr.splitlines()[-1]

    def replace_keys(self, text: str) -> None:
        fresh = self.keys.with_suffix(".new")
        fresh.write_text(text)
        fresh.chmod(0o644)
        fresh.replace(self.keys)
