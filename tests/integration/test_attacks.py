"""What an endpoint on a hostile network meets, each tried on a real one with API keys."""

import contextlib
import gzip
import hashlib
import http.client
import json
import shutil
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import onnx
import psutil
import pytest
import trustme
from onnx import TensorProto, helper

from lifecycle.errors import ServingError
from lifecycle.ingress.launcher import MAX_BODY
from lifecycle.project import Project
from lifecycle.runtime.servers import free_port
from lifecycle.serving.auth import KeyStore
from lifecycle.serving.deployment import deploy, undeploy
from lifecycle.serving.proxy import check_port
from lifecycle.serving.records import to_records
from lifecycle.settings import Settings
from tests.support.trained import Made, train_small

HOST = "127.0.0.1"
LIMIT = 2**20
"""The project's `max_body_bytes` in these tests."""
MEGABYTES = 64
"""A replica may grow by this much under attack; it reads bodies of up to LIMIT."""


class Target(NamedTuple):
    made: Made
    url: str
    key: str
    body: bytes

    @property
    def port(self) -> int:
        return self.made.settings.serve_port

    @property
    def path(self) -> str:
        return f"/{self.made.project.name}/predict"

    @property
    def keys(self) -> KeyStore:
        return KeyStore(self.made.settings.keys_file)

    def post(self, content: bytes | None = None, **headers: str) -> httpx.Response:
        """With the key unless headers are given."""
        sent = headers or {"x-api-key": self.key}
        named = {name.replace("_", "-"): value for name, value in sent.items()}
        return httpx.post(
            f"{self.url}/predict", content=content or self.body, headers=named, timeout=30
        )

    def raw(self, content: bytes, seconds: float = 5.0) -> bytes:
        """Bytes as they are, and all that is answered to them."""
        with socket.create_connection((HOST, self.port), timeout=seconds) as client:
            answer = b""
            with contextlib.suppress(TimeoutError, ConnectionResetError, BrokenPipeError):
                client.sendall(content)
                while chunk := client.recv(65536):
                    answer += chunk
            return answer

    def head(self, path: str, *headers: str, method: str = "POST") -> bytes:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}", f"X-API-Key: {self.key}", *headers]
        return "\r\n".join([*lines, "Connection: close", "", ""]).encode()

    def healthy(self) -> bool:
        """Whether an ordinary request is answered, and soon."""
        start = time.monotonic()
        return self.post().status_code == 200 and time.monotonic() - start < 2


@pytest.fixture(scope="module")
def target(
    health: Project,
    tmp_path_factory: pytest.TempPathFactory,
    serve_port: int,
    ray_cluster: None,
) -> Iterator[Target]:
    home = tmp_path_factory.mktemp("attacked")
    settings = Settings(home=home, serve_port=serve_port, serve_access="keys")
    serving = health.serving.model_copy(update={"max_body_bytes": LIMIT})
    made = train_small(health.model_copy(update={"name": "attacked", "serving": serving}), settings)
    key = KeyStore(settings.keys_file).add("tester")
    inputs = made.holdout()[list(made.project.input_columns)].head(1)
    body = json.dumps({"records": to_records(inputs)}).encode()
    url = deploy(made.bundle.path, made.model, made.project, settings)
    yield Target(made, url, key, body)
    undeploy(made.project.name)


@pytest.fixture(autouse=True)
def unharmed(target: Target) -> Iterator[None]:
    """After every attack the endpoint answers as before."""
    yield
    assert target.healthy()


def refused(response: httpx.Response, *statuses: int) -> str:
    """The reason, in JSON, without anything of the server's inside."""
    assert response.status_code in statuses, response.text
    reason = clean(response.content)
    assert "id" in response.json()
    return reason


def clean(content: bytes) -> str:
    text = content.decode()
    for inside in ("Traceback", 'File "', ".py", "/site-packages", "/home/", "/root/", "/etc/"):
        assert inside not in text
    return str(json.loads(text)["error"])


def status(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1.1 "), answer
    return int(answer.split(b" ", 2)[1])


# --- who may ask -------------------------------------------------------------------------------


def test_without_a_key_or_with_a_wrong_one(target: Target) -> None:
    wrong: list[dict[str, str]] = [
        {"x-nothing": ""},
        {"x-api-key": "lc_wrong"},
        {"x-api-key": target.key + "x"},
        {"authorization": "Bearer"},
        {"authorization": f"Basic {target.key}"},
        {"authorization": target.key},
    ]
    for headers in wrong:
        response = target.post(**headers)
        refused(response, 401)
        assert response.headers["www-authenticate"] == "Bearer"
        assert target.key not in response.text
    assert httpx.get(f"{target.url}/model").status_code == 401
    assert target.post(authorization=f"Bearer {target.key}").status_code == 200


def test_a_key_in_the_address_is_none(target: Target) -> None:
    response = httpx.post(f"{target.url}/predict?api_key={target.key}", content=target.body)
    refused(response, 401)


def test_two_keys_in_one_request(target: Target) -> None:
    for second in (target.key, "lc_wrong"):
        response = target.post(authorization=f"Bearer {second}", x_api_key=target.key)
        assert "two API keys" in refused(response, 401)
    twice = target.head(target.path, f"X-Api-Key: {target.key}", "Content-Length: 2") + b"{}"
    assert status(target.raw(twice)) == 401


def test_a_revoked_key_is_worth_nothing_within_two_seconds(target: Target) -> None:
    key = target.keys.add("leaver")
    time.sleep(1.1)
    assert target.post(x_api_key=key).status_code == 200
    target.keys.revoke("leaver")
    time.sleep(2.0)
    refused(target.post(x_api_key=key), 401)


def test_a_key_of_another_project(target: Target) -> None:
    key = target.keys.add("stranger", projects=["elsewhere"])
    time.sleep(1.1)
    refused(target.post(x_api_key=key), 401)


def test_more_requests_than_a_key_may(target: Target) -> None:
    key = target.keys.add("eager", rate=1)
    time.sleep(1.1)
    began = time.monotonic()
    answers = [target.post(x_api_key=key) for _ in range(20)]
    seconds = time.monotonic() - began
    late = [response for response in answers if response.status_code == 429]
    # one a second, and one of the second before and of that behind; a slow machine asks longer
    assert 1 <= len(answers) - len(late) <= seconds + 2
    assert {response.headers["retry-after"] for response in late} == {"1"}
    assert "too many requests" in refused(late[0], 429)
    assert target.post().status_code == 200, "others are not held back"
    time.sleep(2.0)
    assert target.post(x_api_key=key).status_code == 200


# --- what is asked -----------------------------------------------------------------------------


def memory() -> int:
    """Bytes of the replicas and HAProxy together."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            command = " ".join(process.cmdline())
            if "ServeReplica:attacked" in command or "/bin/haproxy" in command:
                total += process.memory_info().rss
    assert total
    return total


def test_bodies_that_are_too_large(target: Target) -> None:
    before = memory()
    assert "too large" in clean(
        target.raw(target.head(target.path, f"Content-Length: {MAX_BODY + 1}") + b"{").partition(
            b"\r\n\r\n"
        )[2]
    )
    for declared in (2**31 + 1, 2**32 + 1, 10**15):
        answer = target.raw(target.head(target.path, f"Content-Length: {declared}") + b"{")
        assert status(answer) == 413
    for length in (LIMIT + 1, 30 * LIMIT):
        start = time.monotonic()
        refused(target.post(b" " * length), 413)
        assert time.monotonic() - start < 5

    def endless() -> Iterator[bytes]:
        for _ in range(200):
            yield b" " * LIMIT

    start = time.monotonic()
    with contextlib.suppress(httpx.WriteError, httpx.ReadError):
        response = httpx.post(
            f"{target.url}/predict", content=endless(), headers={"x-api-key": target.key}
        )
        refused(response, 413)
    assert time.monotonic() - start < 10
    assert memory() - before < MEGABYTES * 2**20


def test_a_gzip_bomb(target: Target) -> None:
    bomb = gzip.compress(b" " * (200 * LIMIT))
    assert len(bomb) < LIMIT
    twice = gzip.compress(bomb)
    before, start = memory(), time.monotonic()
    for _ in range(10):
        refused(target.post(bomb, x_api_key=target.key, content_encoding="gzip"), 413)
        refused(target.post(twice, x_api_key=target.key, content_encoding="gzip"), 400, 413)
    assert time.monotonic() - start < 10
    assert memory() - before < MEGABYTES * 2**20
    good = gzip.compress(target.body)
    assert target.post(good, x_api_key=target.key, content_encoding="gzip").status_code == 200
    for broken in (good[:-9], b"no gzip"):
        refused(target.post(broken, x_api_key=target.key, content_encoding="gzip"), 400)
    for other in ("br", "deflate", "gzip, gzip", "zstd", "x"):
        refused(target.post(good, x_api_key=target.key, content_encoding=other), 415)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"records":[{"age":' + b"[" * 50_000 + b"]" * 50_000 + b"}]}",
        b'{"records":' + b"[" * 900 + b"]" * 900 + b"}",
        b"\xff\xfe{",
        b'{"records":[{"\\ud800": 1}]}',
        b'{"records":[{"xage": NaN}]}',
        b'{"records":[{"xage": 1e999}]}',
        b'{"records":[{"xage": ' + b"9" * 100_000 + b"}]}",
        b"\x00" * 1000,
        b"null",
        b'"' + b"x" * 500_000 + b'"',
    ],
    ids=lambda body: body[:24].decode("latin1"),
)
def test_strange_bodies(target: Target, body: bytes) -> None:
    paths = ("predict", "invocations", f"v2/models/{target.made.model.name}/infer")
    for path in paths:
        start = time.monotonic()
        response = httpx.post(
            f"{target.url}/{path}", content=body, headers={"x-api-key": target.key}, timeout=30
        )
        refused(response, 400, 413, 422)
        assert time.monotonic() - start < 3


@pytest.mark.system
def test_slow_senders_hold_nobody_up(target: Target) -> None:
    """They get 10 seconds for the headers and as many for the body."""
    head = target.head(target.path, "Content-Length: 1000")
    slow = [b"POST / HTTP/1.1\r\nHost: x\r\n", head, head[:-2]]
    clients = [socket.create_connection((HOST, target.port), timeout=20) for _ in range(200)]
    start, slowest = time.monotonic(), 0.0
    for number, client in enumerate(clients):
        client.sendall(slow[number % len(slow)])
    while time.monotonic() - start < 12:
        for client in clients:
            with contextlib.suppress(OSError):
                client.sendall(b"x")
        asked = time.monotonic()
        assert target.post().status_code == 200
        slowest = max(slowest, time.monotonic() - asked)
        time.sleep(0.5)
    assert slowest < 1.0
    for client in clients:
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            answer = client.recv(65536)
        client.close()
        assert not answer or status(answer) == 408


# --- headers and paths -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: 2", "Content-Length: 3"),
        ("Content-Length: 2, 3",),
        ("Content-Length: +2",),
        ("Content-Length: 0x2",),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
        ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding : chunked", "Content-Length: 2"),
        ("X-A: 1\nX-API-Key: other",),
        ("X-A\x00: 1",),
        (" X-A: 1",),
        ("Content-Length: 2\rX: y",),
    ],
    ids=repr,
)
def test_unsound_headers(target: Target, headers: tuple[str, ...]) -> None:
    answer = target.raw(target.head(target.path, *headers) + b"{}", 3.0)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert status(answer) in (400, 401, 408, 411, 413, 422, 501)
    assert b"Traceback" not in answer


def test_nothing_is_smuggled(target: Target) -> None:
    """Two lengths: whichever a server takes, the rest must not become a second request."""
    hidden = f"GET /{target.made.project.name}/model HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    for headers, body in [
        (("Content-Length: 5", "Transfer-Encoding: chunked"), b"0\r\n\r\n" + hidden),
        (("Content-Length: 200", "Transfer-Encoding: chunked"), b"0\r\n\r\n" + hidden),
        (("Transfer-Encoding: chunked",), b"2\r\n{}\r\n0\r\nX: y\r\n\r\n" + hidden),
        (("Transfer-Encoding: chunked",), b"2;x=\n\r\n{}\r\n0\r\n\r\n" + hidden),
    ]:
        content = target.head(target.path, *headers)
        answer = target.raw(content + body, 3.0)
        assert answer.count(b"HTTP/1.1 ") == 1, answer
        assert status(answer) >= 400


def test_rays_own_headers_do_nothing(target: Target) -> None:
    for name, value in [
        ("serve_multiplexed_model_id", "other"),
        ("serve-multiplexed-model-id", "other"),
        ("x-request-timeout-seconds", "0.000001"),
        ("x-session-id", "s"),
        ("x-serve-router-target", "other"),
        ("x-request-disconnect-disabled", "?0"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-request-id", "../../etc/passwd"),
        ("upgrade", "h2c"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ]:
        assert target.post(**{"x-api-key": target.key, name: value}).status_code == 200, name


def test_many_and_long_headers(target: Target) -> None:
    many = [f"X-{number}: 1" for number in range(500)]
    assert 400 <= status(target.raw(target.head(target.path, *many))) < 500
    assert 400 <= status(target.raw(target.head(target.path, "X-A: " + "a" * 200_000))) < 500
    assert 400 <= status(target.raw(target.head("/" + "a" * 200_000))) < 500


@pytest.mark.parametrize(
    "path",
    [
        "v2/models/..%2f..%2f..%2fetc%2fpasswd/infer",
        "v2/models/../../../etc/passwd/infer",
        "v2/models/%2e%2e/%2e%2e/infer",
        "v2/models/%00/infer",
        "v2/models/attacked%00.ubj/infer",
        "v2/models/attacked/versions/..%2f1/infer",
        "v2/models/attacked/versions/-1/infer",
        "v2/models/attacked/versions/9999999999999999999999/infer",
        "v2/models/" + "a" * 5000 + "/infer",
        "v2/models/%ff%fe/infer",
        "v2/models/{{7*7}}/infer",
        "v2/models/<script>alert(1)</script>/infer",
        "docs/static/../../../etc/passwd",
        "docs/static/..%2f..%2f..%2fetc%2fpasswd",
        "docs/static/%2fetc%2fpasswd",
        "docs/static/",
        "../other/predict",
        "..;/predict",
    ],
    ids=lambda path: path[:40],
)
def test_paths(target: Target, path: str) -> None:
    for method in ("POST", "GET"):
        head = target.head(
            f"/{target.made.project.name}/{path}", "Content-Length: 2", method=method
        )
        answer = target.raw(head + b"{}")
        assert status(answer) in (400, 404, 405, 422)
        header, _, body = answer.partition(b"\r\n\r\n")
        assert b"application/json" in header.lower()
        assert clean(body)
        assert b"root:" not in answer


def test_other_paths_of_the_front(target: Target) -> None:
    for path in ("/", "/-/routes", "/stats", "/metrics", "/api/serve/applications/", "//", "/%2f"):
        answer = target.raw(target.head(path, method="GET"))
        assert status(answer) == 404
        told = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert told.keys() == {"error", "projects", "example"}, "the paths, and nothing else"
        assert f"/{target.made.project.name}" in told["projects"]


# --- bundles -----------------------------------------------------------------------------------


def _signed(folder: Path) -> str:
    """The digest of a bundle whose manifest was written anew, as its forger would."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.iterdir()
        if file.name != "manifest.json"
    }
    content = json.dumps(manifest).encode()
    (folder / "manifest.json").write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def swapped_byte(folder: Path) -> None:
    file = folder / "model.ubj"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def added_code(folder: Path) -> None:
    (folder / "loader.py").write_text("open('/tmp/owned', 'w')")


def pickled(folder: Path) -> None:
    (folder / "model.ubj").write_bytes(b"cposix\nsystem\n(S'touch owned'\ntR.")


def another_schema(folder: Path) -> None:
    schema = json.loads((folder / "schema.json").read_text())
    schema["project"] = "elsewhere"
    (folder / "schema.json").write_text(json.dumps(schema))


def custom_domain(folder: Path) -> None:
    """A graph with an operator that only a library of the attacker's could run."""
    schema = json.loads((folder / "schema.json").read_text())
    features = len(schema["features"]["names"])
    floats = TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Run", ["X"], ["Y"], domain="evil")],
        "evil",
        [helper.make_tensor_value_info("X", floats, [None, features])],
        [helper.make_tensor_value_info("Y", floats, [None, 1])],
    )
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("evil", 1)]
    (folder / "model.ubj").unlink()
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=8), folder / "model.onnx")
    schema["model"] = "onnx"
    (folder / "schema.json").write_text(json.dumps(schema))


@pytest.mark.system
@pytest.mark.parametrize(
    ("change", "signed"),
    [
        (swapped_byte, False),
        (added_code, False),
        (added_code, True),
        (pickled, False),
        (pickled, True),
        (another_schema, False),
        (custom_domain, False),
        (custom_domain, True),
    ],
)
def test_a_bad_bundle_is_not_served_and_the_former_goes_on(
    target: Target, tmp_path: Path, change: Callable[[Path], None], signed: bool
) -> None:
    made = target.made
    folder = tmp_path / "bundle"
    shutil.copytree(made.bundle.path, folder)
    change(folder)
    # a forger who may write the registry, too, has a digest of his own there
    digest = _signed(folder) if signed else made.model.digest
    model = made.model.model_copy(update={"version": 2, "digest": digest})
    with pytest.raises(ServingError, match="cannot be served as /attacked") as said:
        deploy(folder, model, made.project, made.settings)
    assert "Traceback" not in str(said.value)
    assert target.post().json()["model"] == {
        "name": made.model.name,
        "version": made.model.version,
        "digest": made.model.digest,
    }
    assert not list(Path.cwd().glob("owned"))


@pytest.mark.system
def test_a_good_bundle_is_served_after_all_that(target: Target) -> None:
    made = target.made
    second = made.model.model_copy(update={"version": 2})
    deploy(made.bundle.path, second, made.project, made.settings)
    assert target.post().json()["model"]["version"] == 2


# --- the network -------------------------------------------------------------------------------


def test_only_loopback_is_listened_on(target: Target) -> None:
    heard = {
        (connection.laddr.ip, connection.laddr.port)
        for process in psutil.Process().children(recursive=True)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert (HOST, target.port) in heard
    assert {ip for ip, _ in heard} <= {HOST, "::1", "::ffff:127.0.0.1"}


HTTPS = textwrap.dedent("""
    import json, pickle, sys
    import psutil
    from lifecycle.runtime.cluster import connect_ray
    from lifecycle.serving.deployment import deploy
    settings, bundle, model, project = pickle.load(open(sys.argv[1], "rb"))
    with connect_ray(settings):
        url = deploy(bundle, model, project, settings)
        children = psutil.Process().children(recursive=True)
        print(json.dumps([url, [child.pid for child in children]]), flush=True)
        sys.stdin.read()
""")


@pytest.mark.system
def test_https_with_certificate_files(target: Target, tmp_path: Path) -> None:
    """And when its script ends, nothing was said and nothing is left of what it served."""
    import pickle

    ca = trustme.CA()
    issued = ca.issue_cert(HOST)
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    made, port = target.made, free_port()
    settings = made.settings.model_copy(
        update={"serve_port": port, "serve_tls_cert": cert, "serve_tls_key": key}
    )
    file = tmp_path / "made.pickle"
    file.write_bytes(pickle.dumps((settings, made.bundle.path, made.model, made.project)))
    with subprocess.Popen(
        [sys.executable, "-c", HTTPS, str(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        url, children = json.loads(process.stdout.readline())
        assert url == f"https://{HOST}:{port}/attacked"
        context = httpx.create_ssl_context()
        ca.configure_trust(context)
        with httpx.Client(verify=context, headers={"x-api-key": target.key}) as client:
            assert client.post(f"{url}/predict", content=target.body).status_code == 200
        with pytest.raises(httpx.ConnectError, match="certificate"):
            httpx.get(f"{url}/health")
        with pytest.raises((httpx.TransportError, http.client.HTTPException)):
            httpx.get(url.replace("https", "http") + "/health")
        assert process.communicate("")[1] == ""
    assert process.returncode == 0
    assert children
    psutil.wait_procs([psutil.Process(p) for p in children if psutil.pid_exists(p)], 10)
    assert not [p for p in children if psutil.pid_exists(p)]
    check_port(HOST, port)
