"""What monitoring found is pushed to a gateway, and is then nowhere else."""

import logging
import socket
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lifecycle.monitoring import gauges
from lifecycle.monitoring.gauges import publish_tries
from lifecycle.project import Project
from lifecycle.records import Attempt
from lifecycle.runtime.servers import free_port
from lifecycle.settings import Settings

TRIES = [Attempt(id="a", time=datetime.now(UTC), by_hand=False, outcome="finding")]
PASSWORD = "p@ss/word of the gateway"  # noqa: S105 - of a server that lives as long as a test


class Gateway:
    """A web server that keeps what is put; `status` is what it answers."""

    def __init__(self) -> None:
        self.pushes: list[Push] = []
        self.status = 202
        self.address = ""


class Push(NamedTuple):
    method: str
    path: str
    login: str | None
    values: dict[str, float]


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    gateway = Gateway()

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            samples = [s for f in text_string_to_metric_families(text) for s in f.samples]
            values = {s.name: s.value for s in samples if s.value}
            login = self.headers["Authorization"]
            gateway.pushes.append(Push(self.command, self.path, login, values))
            self.send_response(gateway.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Leave the test's output alone."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    gateway.address = f"127.0.0.1:{server.server_address[1]}"
    yield gateway
    server.shutdown()
    server.server_close()


def files(settings: Settings) -> list[str]:
    return [path.name for path in settings.gauges_folder("small").iterdir()]


def with_gateway(settings: Settings, url: str) -> Settings:
    return Settings(home=settings.home, env="prod", pushgateway=url)


def test_a_page_is_pushed_in_the_place_of_a_file(
    gateway: Gateway, make_project: Callable[..., Project], settings: Settings
) -> None:
    project = make_project()
    publish_tries(project, settings, TRIES, useless=1)
    assert files(settings) == ["retraining.prom"]
    pushed = with_gateway(settings, f"http://{gateway.address}/behind/")
    publish_tries(project, pushed, TRIES, useless=2)
    (push,) = gateway.pushes
    group = "/job/flows-prod/env/prod/page/retraining/project/small"
    assert (push.method, push.path) == ("PUT", f"/behind/metrics{group}")
    assert push.values["lifecycle_retraining_useless_tries"] == 2
    assert push.login is None
    assert files(settings) == [], "nobody would renew the file from before"


@pytest.mark.parametrize(
    ("login", "text"),
    [("me:p%40ss%2Fword%20of%20the%20gateway", f"me:{PASSWORD}"), ("token", "token:")],
)
def test_it_logs_in_as_the_url_says(
    login: str,
    text: str,
    gateway: Gateway,
    make_project: Callable[..., Project],
    settings: Settings,
) -> None:
    url = f"http://{login}@{gateway.address}"
    publish_tries(make_project(), with_gateway(settings, url), TRIES, useless=0)
    assert gateway.pushes[0].login == f"Basic {b64encode(text.encode()).decode()}"


@pytest.mark.parametrize("place", ["nobody is there", "refuses", "is no gateway"])
def test_a_gateway_that_does_not_take_it_is_a_warning(
    place: str,
    gateway: Gateway,
    make_project: Callable[..., Project],
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    gateway.status = 401
    address = {
        "nobody is there": f"127.0.0.1:{free_port()}",
        "refuses": gateway.address,
        "is no gateway": "host:no-port",
    }[place]
    project = make_project()
    publish_tries(project, settings, TRIES, useless=1)
    with caplog.at_level(logging.WARNING, gauges.__name__):
        url = f"http://me:hidden-in-any-case@{address}"
        publish_tries(project, with_gateway(settings, url), TRIES, useless=1)
    (said,) = caplog.messages
    assert said.startswith(
        f"the gauges retraining of small were not pushed to http://me:***@{address} ("
    )
    assert said.endswith("correct LIFECYCLE_PUSHGATEWAY")
    assert ("401" in said) == (place == "refuses")
    assert "\n" not in said
    assert "hidden" not in said
    assert files(settings) == ["retraining.prom"]


def test_a_gateway_that_hangs_holds_a_flow_up_for_seconds_only(
    make_project: Callable[..., Project],
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gauges, "PUSH_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        publish_tries(make_project(), with_gateway(settings, url), TRIES, useless=1)
    assert "timed out" in caplog.text
