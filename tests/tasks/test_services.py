"""A service that does not answer, or is something else, is told at once with its variable."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from lifecycle.errors import BackendError, LifecycleError, RayError
from lifecycle.runtime.servers import free_port
from lifecycle.settings import Settings
from tasks.services import require_services

pytestmark = pytest.mark.component

WEB = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


@contextmanager
def listener(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Something that listens on a port of loopback and does this with each connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        stop = threading.Event()
        held = []

        def serve() -> None:
            while not stop.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                held.append(connection)
                connection.settimeout(2)
                answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            stop.set()
            thread.join()
            for connection in held:
                connection.close()


def silent(connection: socket.socket) -> None:
    """Takes the connection and never says a word."""


def website(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.sendall(WEB)
    connection.close()


@pytest.fixture
def dead() -> int:
    return free_port()


@pytest.mark.parametrize("answer", [None, silent, website], ids=["dead", "silent", "website"])
@pytest.mark.parametrize(
    ("variable", "form"),
    [
        ("PREFECT_API_URL", "http://127.0.0.1:{}/api"),
        ("LIFECYCLE_MLFLOW_TRACKING_URI", "http://someone:planted-pw@127.0.0.1:{}"),
        ("LIFECYCLE_MLFLOW_TRACKING_URI", "postgresql+psycopg://u:planted-pw@127.0.0.1:{}/mlflow"),
        ("LIFECYCLE_RAY_ADDRESS", "127.0.0.1:{}"),
        ("LIFECYCLE_RAY_ADDRESS", "ray://127.0.0.1:{}"),
    ],
)
def test_a_service_that_does_not_answer_is_one_message_within_10_seconds(
    variable: str,
    form: str,
    answer: Callable[[socket.socket], None] | None,
    dead: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "MLFLOW" in variable and answer is website:
        pytest.skip("MLflow may stand behind something that answers otherwise")
    if "postgresql" in form and answer:
        pytest.skip("a database is only knocked at")
    monkeypatch.delenv("LIFECYCLE_ENV", raising=False)
    with listener(answer) if answer else _nobody(dead) as port:
        url = form.format(port)
        monkeypatch.setenv(variable, url)
        prefect = url if variable == "PREFECT_API_URL" else None
        began = time.monotonic()
        with (
            temporary_settings({PREFECT_API_URL: prefect}),
            pytest.raises(LifecycleError, match=variable) as refusal,
        ):
            require_services(Settings.load(), registry=True, cluster=True)
        assert time.monotonic() - began < 10
        assert isinstance(refusal.value, BackendError)
        assert isinstance(refusal.value, RayError) == ("RAY" in variable)
        said = str(refusal.value)
        assert str(port) in said
        assert "planted-pw" not in said
        assert "\n" not in said


@contextmanager
def _nobody(port: int) -> Iterator[int]:
    yield port


def test_without_services_nothing_is_asked(monkeypatch: pytest.MonkeyPatch, dead: int) -> None:
    monkeypatch.setenv("LIFECYCLE_RAY_ADDRESS", f"127.0.0.1:{dead}")
    with temporary_settings({PREFECT_API_URL: None}):
        require_services(Settings.load(), registry=False, cluster=False)
