"""A real Prometheus, and what it knows; and a real Pushgateway."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from lifecycle.runtime.servers import HOST, free_port, server
from tests.support.prefect_server import wait_for


class Prometheus:
    """A running one, and what it knows."""

    def __init__(self, port: int) -> None:
        self.url = f"http://{HOST}:{port}"

    def ready(self) -> bool:
        return _is_ready(self.url)

    def ask(self, query: str) -> list[dict[str, Any]]:
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": query}, trust_env=False)
        found: list[dict[str, Any]] = answer.raise_for_status().json()["data"]["result"]
        return found

    def number(self, query: str) -> float:
        found = self.ask(query)
        return float(found[0]["value"][1]) if found else 0.0


def prometheus_program() -> str:
    """Path of the program; without it the test is skipped."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed: make servers")
    return program


@contextmanager
def running_pushgateway(folder: Path, address: str = HOST) -> Iterator[str | None]:
    """A gateway until the block ends; its host and port, or None where it is not installed."""
    program = shutil.which("prometheus-pushgateway") or shutil.which("pushgateway")
    if program is None:
        yield None
        return
    place = f"{address}:{free_port()}"
    command = [program, f"--web.listen-address={place}", "--persistence.file="]
    with server(command, {}, folder / "pushgateway.log"):
        wait_for(lambda: _is_ready(f"http://{place}"), 30, "the Pushgateway")
        yield place


@contextmanager
def running_prometheus(config: dict[str, Any], folder: Path) -> Iterator[Prometheus]:
    """One that scrapes as the configuration says, until the block ends."""
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    port = free_port()
    command = [prometheus_program(), f"--config.file={file}", f"--storage.tsdb.path={folder}/data"]
    command += [f"--web.listen-address={HOST}:{port}"]
    with server(command, {}, folder / "prometheus.log"):
        prometheus = Prometheus(port)
        wait_for(prometheus.ready, 30, "Prometheus")
        yield prometheus


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready", trust_env=False).is_success
    except httpx.TransportError:
        return False
