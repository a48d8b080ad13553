"""Which failures of Serve's proxy will not mend themselves, and what is said of them."""

from pathlib import Path

import pytest

from lifecycle.errors import PortInUseError, UnavailableError
from lifecycle.ingress import launcher
from lifecycle.serving import proxy
from lifecycle.serving.proxy import refused
from lifecycle.settings import Settings

ALL = "0.0.0.0"  # noqa: S104 - nothing listens here
# as Ray 2.60 gives it, where another process listened on the port
TAKEN = """\x1b[36mray::HAProxyManager.ready()\x1b[39m (pid=17711, ip=127.0.0.1, actor_id=6b4b)
  File "concurrent/futures/_base.py", line 456, in result
    return self.__get_result()
RuntimeError: HAProxy crashed during startup: [NOTICE]   (17761) : config : config: Can't open \
global server state file '/tmp/lc/server-state': No such file or directory
[NOTICE]   (17761) : haproxy version is 2.8.25-5cf5d0683
[ALERT]    (17761) : Binding [/tmp/lc/haproxy.cfg:39] for frontend http_frontend: cannot bind \
socket (Address already in use) for [127.0.0.1:18413]
[ALERT]    (17761) : [haproxy.main()] Some protocols failed to start their listeners! Exiting."""
REFUSED = """RuntimeError: HAProxy crashed during startup: lifecycle-front: HAProxy is not \
started: /tmp/shared can be changed by other users; name a folder of your own"""
ALERT = """HAProxy crashed during startup: [NOTICE]   (1) : haproxy version is 2.8.25
[ALERT]    (1) : config : unknown keyword 'x'"""
LATE = """The actor died unexpectedly before finishing this task.
The actor is dead because it was killed by `ray.kill`."""


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        (TAKEN, PortInUseError, "begun to listen on 127.0.0.1:8123, perhaps another release"),
        (
            REFUSED,
            UnavailableError,
            "does not start: lifecycle-front: HAProxy is not started: /tmp",
        ),
        (ALERT, UnavailableError, "does not start: config : unknown keyword 'x'"),
    ],
)
def test_a_refusal_is_one_line(text: str, kind: type[Exception], says: str) -> None:
    refusal = refused(text, Settings(home=Path("/home"), serve_port=8123))
    assert type(refusal) is kind
    assert says in str(refusal)
    assert "\n" not in str(refusal)


def test_what_is_late_is_waited_for() -> None:
    assert refused(LATE, Settings(home=Path("/home"))) is None


@pytest.mark.parametrize(
    ("host", "front", "listens"),
    [
        ("127.0.0.1", "", "127.0.0.1"),
        ("localhost", "10.0.0.2", "localhost"),
        (ALL, "10.0.0.2", ALL),
        ("10.0.0.2", "10.0.0.2", ALL),
        ("fd00::2", "[fd00::2]", "::"),
        ("head.example", "head.example", ALL),
        ("10.0.0.2", "", "10.0.0.2"),  # a cluster without the front: there is only Serve's own
    ],
)
def test_replicas_listen_on_their_own_nodes(
    host: str, front: str, listens: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy, "head_variable", lambda name: front)
    settings = Settings(serve_host=host)
    assert proxy._interface(settings) == listens
    if listens != host:
        assert launcher.listener(settings)["LIFECYCLE_FRONT_HOST"] == front
