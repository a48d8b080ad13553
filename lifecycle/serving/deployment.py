"""Putting a bundle behind an HTTP endpoint on Ray Serve, and taking it away again."""

import errno
import logging
import socket
from importlib import import_module
from pathlib import Path
from typing import Any

from lifecycle.errors import PortInUseError, ServingError
from lifecycle.project import Project
from lifecycle.records import ModelVersion
from lifecycle.settings import Settings

logger = logging.getLogger(__name__)

QUIET = {"log_level": "WARNING", "enable_access_log": False}
STOP_SECONDS = 5.0
"""How long a replica may finish its requests before it is stopped."""


def deploy(bundle: Path, model: ModelVersion, project: Project, settings: Settings) -> str:
    """Serve a bundle under `/<project name>`, in place of the version that is served there.

    Ray is connected already; the endpoint lives as long as its Ray. A new version answers once it
    is ready, until then the old one does.

    Returns:
        The URL under which `/predict`, `/health` and `/model` are.

    Raises:
        PortInUseError: another process listens on the port.
        ServingError: the application does not start; the former one was not replaced.
    """
    from ray import serve

    start_proxy(settings)
    from lifecycle.serving.app import ModelServer

    spec = project.serving
    served = serve.deployment(
        name="model",
        num_replicas=spec.replicas,
        max_ongoing_requests=spec.max_ongoing_requests,
        max_queued_requests=spec.max_queued_requests,
        ray_actor_options={"num_cpus": 0},  # serving must not starve the other stages of a laptop
        graceful_shutdown_timeout_s=STOP_SECONDS,
        graceful_shutdown_wait_loop_s=0.1,
        logging_config=QUIET,
    )(ModelServer)
    try:
        serve.run(
            served.bind(str(bundle), model, project),
            name=project.name,
            route_prefix=f"/{project.name}",
        )
    except Exception as error:
        raise ServingError(
            f"{model.uri} cannot be served as /{project.name}: {_cause(project.name, error)}"
        ) from None
    return f"http://{settings.serve_host}:{settings.serve_port}/{project.name}"


def undeploy(project_name: str) -> None:
    """Stop serving a project; nothing happens if it is not served. Others keep being served."""
    from ray import serve

    if project_name in serve.status().applications:
        serve.delete(project_name)


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


def _cause(name: str, error: Exception) -> str:
    """The last line of what the replica said, without its traceback."""
    from ray import serve

    application = serve.status().applications.get(name)
    said = [d.message for d in application.deployments.values()] if application else []
    lines = [line.strip() for line in (said[0] if said else str(error)).splitlines()]
    return next((line for line in reversed(lines) if line), type(error).__name__)
