"""Serve's HTTP proxy: one a Ray, on the host and port of the settings."""

import errno
import logging
import socket
from importlib import import_module
from typing import Any

from lifecycle.errors import PortInUseError, ServingError
from lifecycle.serving.counts import clear
from lifecycle.settings import Settings

METRICS = "metrics"
"""Folder below `home` with the counts of each application."""
QUIET = {"log_level": "WARNING", "enable_access_log": False}


def start_proxy(settings: Settings) -> None:
    """Have Serve's HTTP proxy listen on the settings' host and port.

    Raises:
        PortInUseError: another process listens there, or Serve runs on another port already.
        ServingError: the proxy does not start.
    """
    from ray import serve

    logging.getLogger("ray.serve").setLevel(logging.ERROR)  # it tells each step on stderr
    if serve.status().proxies:
        _check_running(settings)
        return
    check_port(settings.serve_host, settings.serve_port)
    for folder in settings.folder(METRICS).iterdir():
        clear(folder)
    try:
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": settings.serve_host, "port": settings.serve_port},
            logging_config=QUIET,
        )
    except Exception as error:
        raise ServingError(
            f"Ray Serve cannot listen on {settings.serve_host}:{settings.serve_port}: {error}"
        ) from error


def _check_running(settings: Settings) -> None:
    """A Ray has one Serve, and so one port for all its applications."""
    context: Any = import_module("ray.serve.context")  # no public call tells the port
    port = context._get_global_client().http_config.port
    if port != settings.serve_port:
        raise PortInUseError(
            f"Ray Serve of this cluster listens on port {port} already, not on "
            f"{settings.serve_port}; set LIFECYCLE_SERVE_PORT={port}"
        )


def check_port(host: str, port: int) -> None:
    """Whether a server could listen here, told before Serve waits for it in vain.

    Raises:
        PortInUseError: another process listens there, or the host is not one of this machine.
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
