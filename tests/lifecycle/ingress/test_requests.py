"""Requests through the real HAProxy: what it refuses, hides and answers by itself."""

import contextlib
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lifecycle.ingress import config as haproxy
from lifecycle.ingress import launcher
from lifecycle.runtime.servers import free_port
from tests.support.front import (
    HOST,
    ask,
    haproxy_binary,
    listens,
    raw,
    render,
    replica,
    running,
    wait,
)


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


@contextlib.contextmanager
def _plain(config: Path, more: list[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """HAProxy itself with a prepared configuration."""
    process = subprocess.Popen([haproxy_binary(), "-db", "-f", str(config), "-dR", *more])
    try:
        wait(lambda: listens(port))
        yield process
    finally:
        process.kill()
        process.wait()
