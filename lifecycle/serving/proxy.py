"""Serve's HTTP proxy: one a Ray, on the host and port of the settings."""

import errno
import logging
import re
import socket
import time
from typing import Any

from lifecycle.errors import BackendError, PortInUseError, UnavailableError
from lifecycle.ingress import launcher
from lifecycle.runtime.nodes import head_variable
from lifecycle.runtime.ray_internals import serve_port
from lifecycle.serving.counters import clear
from lifecycle.settings import Settings

METRICS = "metrics"
"""Folder below `home` with the counts of each application, in a folder per node."""
QUIET = {"log_level": "WARNING", "enable_access_log": False}
STARTUP_S = 300.0
"""Seconds the proxy may take: Serve starts it again as long as it is late, which a busy machine
makes it, and each time waits longer."""
POLL_S = 0.2
PORT_TAKEN = "cannot bind"
"""What HAProxy says where another process has the port."""
CRASHED = "crashed during startup:"
"""How Ray quotes what HAProxy said before it ended."""
HAPROXY_LEVEL = re.compile(r"^\[(\w+)\] +\(\d+\) : ")
"""Begins each of HAProxy's own lines; those of `lifecycle-front` have none."""

logger = logging.getLogger(__name__)


def quiet_serve() -> Any:
    """Module `ray.serve`, which tells each of its steps on stderr from its import on."""
    from ray import serve

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    return serve


def start_proxy(settings: Settings) -> None:
    """Have Serve's HTTP proxy listen on the settings' host and port.

    Raises:
        PortInUseError: another process listens there, or Serve runs on another port already.
        UnavailableError: the proxy does not start.
    """
    serve = quiet_serve()
    if serve.status().proxies:
        _check_running(settings)
        _wait_for_proxy(settings)
        return
    check_port(settings.serve_host, settings.serve_port)
    for folder in settings.folder(METRICS).glob("*/*"):
        clear(folder)
    try:
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": _interface(settings), "port": settings.serve_port},
            logging_config=QUIET,
        )
    except Exception as error:
        if (refusal := refused(str(error), settings)) is not None:
            raise refusal from None
        logger.warning("the endpoint's HTTP proxy is late, as on a busy machine: waiting for it")
    _wait_for_proxy(settings)


def _interface(settings: Settings) -> str:
    """The address that Serve listens on, with its replicas if they are behind the front.

    Then it has to be the replicas' on each node, and the front alone keeps to that of the settings
    (`launcher.listener`).
    """
    host = settings.serve_host
    if not launcher.is_one_of_several(host) or not head_variable(launcher.HOST):
        return host
    return "::" if ":" in host else "0.0.0.0"  # noqa: S104 - the replicas', inside the cluster


def refused(text: str, settings: Settings) -> BackendError | None:
    """Return the error if HAProxy cannot start however long one waits; None if it may be late.

    Args:
        text: the message of the error that its start raised.
    """
    place = f"{settings.serve_host}:{settings.serve_port}"
    if PORT_TAKEN in text:
        return PortInUseError(
            f"another process has begun to listen on {place}, perhaps another release; "
            "stop it or wait for its end, or set LIFECYCLE_SERVE_PORT to a free port"
        )
    if CRASHED not in text:
        return None
    lines = [line.strip() for line in text.partition(CRASHED)[2].splitlines()]
    levels = [(HAPROXY_LEVEL.match(line), line) for line in lines if line]
    causes = [line for level, line in levels if level is None or level[1] == "ALERT"]
    cause = HAPROXY_LEVEL.sub("", causes[0]) if causes else "it gives no reason"
    return UnavailableError(f"the HTTP proxy on {place} does not start: {cause}")


def _wait_for_proxy(settings: Settings) -> None:
    """Wait until Serve reports its proxy as healthy. Serve itself restarts a proxy that is late.

    Raises:
        PortInUseError: another process listens on the port.
        UnavailableError: the proxy is not ready within `STARTUP_S`.
    """
    from ray import serve

    end = time.monotonic() + STARTUP_S
    while True:
        proxies = serve.status().proxies
        if proxies and all(status == "HEALTHY" for status in proxies.values()):
            return
        if time.monotonic() > end:
            check_port(settings.serve_host, settings.serve_port)  # somebody else may have it
            raise UnavailableError(
                f"the HTTP proxy on {settings.serve_host}:{settings.serve_port} was not ready "
                f"within {STARTUP_S:g} s, as on a machine that is too busy; try again"
            )
        time.sleep(POLL_S)


def _check_running(settings: Settings) -> None:
    """A Ray has one Serve, and so one port for all its applications."""
    port = serve_port()
    if port != settings.serve_port:
        raise PortInUseError(
            f"Ray Serve of this cluster listens on port {port} already, not on "
            f"{settings.serve_port}; set LIFECYCLE_SERVE_PORT={port}"
        )


def check_port(host: str, port: int) -> None:
    """Check that a server can listen here, before Serve would wait for it in vain.

    Raises:
        PortInUseError: another process listens on the port, or the host is not this machine's.
    """
    advice = "stop that process, or set LIFECYCLE_SERVE_PORT to a free port"
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortInUseError(f"port {port} of {host} is in use; {advice}") from None
            raise PortInUseError(
                f"cannot listen on port {port} of {host} ({error.strerror}); set "
                "LIFECYCLE_SERVE_HOST to an address of this machine and LIFECYCLE_SERVE_PORT to a "
                "port this user may open"
            ) from None
