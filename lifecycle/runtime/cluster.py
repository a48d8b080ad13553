"""Ray for a `with` block: started here and stopped at its end, or joined and left running."""

import importlib
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lifecycle.errors import RayError, ray_reason
from lifecycle.ingress import launcher
from lifecycle.runtime import files
from lifecycle.runtime.logs import worker_environment
from lifecycle.runtime.nodes import require_same_nodes
from lifecycle.runtime.ray_internals import use_cluster_mode
from lifecycle.runtime.remote_driver import PORT, require_shared_stores
from lifecycle.runtime.servers import free_port
from lifecycle.settings import Settings

logger = logging.getLogger(__name__)

LONGEST_TEMP = 12
"""Characters of a temporary folder at most: socket paths below it are limited to 107, HAProxy's to
97, and Ray adds up to 75."""

# Read by Ray's processes when they start, so set before it starts; a variable set outside wins.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent anywhere
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.05",  # a report waits for this poll; 2 s by default
    "RAY_TRAIN_METRICS_ENABLED": "0",  # ours go to MLflow
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # checkpoints are enough, its process is not free
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the same in a worker
    "RAY_SERVE_LOG_TO_STDERR": "0",  # Serve's messages stay in Ray's log files
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # otherwise each start warns about its future
}
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""One machine only: every port of a local Ray (GCS, raylet, agents) then listens on loopback."""
WARM = "lifecycle.training.fit"
"""Takes seconds to import: a worker of a joined cluster does it while this process goes on."""
KNOCK_S = 5.0
"""Seconds a listening process may take to answer."""
HTTP2_SETTINGS = b"\x04"
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + HTTP2_SETTINGS + b"\0" * 5
"""A client's first bytes, with an empty SETTINGS frame."""
JOIN_ADVICE = "start that cluster, or set LIFECYCLE_RAY_ADDRESS=local"
REMOTE_ADVICE = "see that RAY_AUTH_MODE and RAY_AUTH_TOKEN are those of that cluster"
"""Somebody listens there, and Ray Client reports a wrong token as a connection that timed out."""
SERVER_ADVICE = "see ray_client_server*.err among the logs of Ray on the head"
ATTEMPTS = 3
"""Ray gives its processes 30 s to start, which a busy machine may miss."""
BUSY = 2.0
"""Processes that want a CPU, per CPU, from which a machine counts as busy."""


@contextmanager
def connect_ray(settings: Settings) -> Iterator[None]:
    """Have Ray for the block; inside a running connection this does nothing.

    `local` starts a Ray of its own, on loopback only, and stops it at the end; any other address is
    joined and left running.

    Raises:
        RayError: Ray cannot be started, does not answer at the address, or has a node with another
            Python, other packages or other code.
    """
    prepare_environment(settings.local_ray, settings)
    import ray  # seconds to import, and it reads the environment while importing

    if ray.is_initialized():
        yield
        return
    files.mark()
    for text in files.sweep(Path("/tmp")):  # noqa: S108 - where `_temp_folder` may be
        logger.info("left by a process that was killed, and swept: %s", text)
    folder = _temp_folder() if settings.local_ray else None
    with _interrupted_by_sigterm() as arm:
        try:
            if folder:
                # Ray opens its folder to all users; the one around both stays ours
                (folder / "f").mkdir(mode=0o700)
                os.environ.update(launcher.isolation(folder / "f", free_port()))
                _start(settings, folder / "r")
            else:
                _join(settings)
            arm()
            yield
        finally:
            ray.shutdown()
            if folder:
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _interrupted_by_sigterm() -> Iterator[Callable[[], None]]:
    """Let who handles SIGTERM, as Prefect does to cancel, end the block though it waits for Ray.

    Ray takes the signal for itself when it starts, so `arm` is called after that. And a call that
    waits for Ray loses whatever a handler raises in it, but for KeyboardInterrupt and SystemExit:
    so that is raised, and the handler is called when the block has been left.
    """
    before = signal.getsignal(signal.SIGTERM)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    received: list[int] = []

    def interrupt(number: int, _: object) -> None:
        if not received:  # what is being tidied up is not disturbed
            received.append(number)
            raise KeyboardInterrupt

    def arm() -> None:
        signal.signal(signal.SIGTERM, interrupt)

    try:
        yield arm
    finally:
        signal.signal(signal.SIGTERM, before)
        if received:
            before(received[0], None)


def is_connected() -> bool:
    """Return whether this process has connected to Ray. Costs nothing if Ray was not imported."""
    ray = sys.modules.get("ray")
    return bool(ray and ray.is_initialized())


def ray_data() -> Any:
    """The module `ray.data`, quiet, its results in the order of what went in."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it tells each step on stderr
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.execution_options.verbose_progress = False
    return ray.data


def rows_of(data: Any, stage: str) -> Iterator[dict[str, Any]]:
    """The rows of a dataset of Ray Data, in its order.

    Its tasks return errors of ours as rows: raised, Ray would wrap them in its own and print them.

    Args:
        stage: what is under way, for the message.

    Raises:
        RayError: a process or node of Ray's is gone for good.
    """
    from ray.exceptions import RayError as AnyRayError
    from ray.exceptions import RayTaskError

    try:
        yield from data.iter_rows()
    except RayTaskError:  # not an error of ours, so its trace is wanted
        raise
    except AnyRayError as error:
        raise RayError(f"{stage}: Ray gave up ({ray_reason(error)}); run again") from None


def capacity() -> str:
    """Describe the CPUs and nodes of the connected Ray."""
    import ray

    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray leaves it untyped
    return f"{resources.get('CPU', 0):.0f} CPUs on {len(ray.nodes())} node(s)"  # type: ignore[no-untyped-call]  # the same


def prepare_environment(local: bool, settings: Settings | None = None) -> None:
    """Set what Ray reads when it starts; variables that are set already stay."""
    own = LOOPBACK | launcher.environment() if local else {}
    for name, value in (ENVIRONMENT | own).items():
        os.environ.setdefault(name, value)
    if local and settings:
        os.environ.update(launcher.listener(settings))


def _start(settings: Settings, folder: Path) -> None:
    import ray

    use_cluster_mode(False)  # LOOPBACK, for a Ray that was imported before
    for attempt in range(1, ATTEMPTS + 1):
        try:
            ray.init(
                address="local",
                num_cpus=settings.local_cpus,
                include_dashboard=settings.ray_dashboard,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=str(folder),
                runtime_env=worker_environment(settings),
            )
        except Exception as error:
            ray.shutdown()
            if attempt < ATTEMPTS and "timed out" in str(error):
                logger.warning("Ray did not start in time, trying once more")
                continue
            raise RayError(
                f"cannot start a local Ray with {settings.local_cpus} CPUs ({ray_reason(error)}); "
                f"{_start_advice(str(error))}, or name a running cluster with LIFECYCLE_RAY_ADDRESS"
            ) from error
        return


def _start_advice(error: str) -> str:
    """What to do when Ray's processes do not start: wait for a busy machine, or make room."""
    load, cpus = os.getloadavg()[0], os.cpu_count() or 1
    if "timed out" in error and load > BUSY * cpus:
        return (
            f"the machine is busy (load {load:.0f} on {cpus} CPUs, {ATTEMPTS} attempts): run it "
            "again when others are done"
        )
    return "free memory and space in /dev/shm and the temporary folder"


def require_ray(address: str, timeout: float = KNOCK_S) -> tuple[str, int]:
    """See that somebody listens at the address of a cluster; its host and port.

    Args:
        timeout: seconds to wait.

    Raises:
        RayError: nobody does.
    """
    target = urlsplit(address if "://" in address else f"ray-gcs://{address}")
    try:
        host, port = (
            target.hostname or "",
            target.port or (PORT if target.scheme == "ray" else 6379),
        )
        _greet(host, port, timeout)
    except (OSError, ValueError) as error:
        raise RayError(
            f"LIFECYCLE_RAY_ADDRESS: no Ray answers at {address!r} ({ray_reason(error)}); "
            f"{JOIN_ADVICE}"
        ) from None
    return host, port


def _greet(host: str, port: int, timeout: float) -> None:
    """See that who listens speaks gRPC, as Ray does; Ray would wait a minute for anything else.

    HTTP/2 (RFC 9113, 3.4): after the client's preface, both sides begin with a SETTINGS frame.

    Raises:
        OSError: nobody listens there, or somebody else.
    """
    with socket.create_connection((host, port), timeout) as connection:
        if os.environ.get("RAY_USE_TLS") == "1":
            return
        connection.settimeout(timeout)
        connection.sendall(HTTP2_PREFACE)
        answer = b""
        while len(answer) < 4 and (part := connection.recv(9 - len(answer))):
            answer += part
        if answer[3:4] != HTTP2_SETTINGS:
            raise OSError("what listens there is no Ray")


def _join(settings: Settings) -> None:
    import ray

    address = settings.ray_address
    host, port = require_ray(address)
    if settings.remote_ray:
        require_shared_stores(settings)
        logging.getLogger("ray").setLevel(logging.ERROR)  # its client tells each step on stderr
        _init(settings, f"ray://{host}:{port}")
        require_same_nodes()
        return
    own: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]  # Ray's
    if host in ("127.0.0.1", "localhost") and not _answers(own, port):
        use_cluster_mode(False)  # else Ray would look for it at that address
    _init(settings, address)
    # asks for a CPU, so that it is where tasks will be; a head often has none
    ray.remote(num_cpus=1, max_retries=0)(_warm_up).remote()
    require_same_nodes()


def _init(settings: Settings, address: str) -> None:
    """Join, through Ray Client in several attempts.

    Its server forks a process for each client, which now and then crashes before it begins
    (https://github.com/ray-project/ray/issues/63202), and reports that it could not start it.

    Raises:
        RayError: it cannot be joined.
    """
    import ray

    for attempt in range(1, ATTEMPTS + 1):
        try:
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env=worker_environment(settings),
            )
        except Exception as error:
            advice = REMOTE_ADVICE if settings.remote_ray else JOIN_ADVICE
            if settings.remote_ray and isinstance(error, ConnectionAbortedError):
                if attempt < ATTEMPTS:
                    logger.warning("Ray Client's server did not start, trying once more")
                    continue
                advice = SERVER_ADVICE
            reason = ray_reason(error)
            raise RayError(
                f"LIFECYCLE_RAY_ADDRESS: cannot join Ray at {address!r} ({reason}); {advice}"
            ) from error
        return


def _warm_up() -> None:
    """Runs in a worker of a joined cluster, which keeps what it imported for the tasks to come."""
    os.environ.pop("OMP_NUM_THREADS", None)  # Ray's, for one CPU: XGBoost would keep to it later
    with suppress(ImportError):  # then the first task says what is missing there
        importlib.import_module(WARM)


def _knock(host: str, port: int, timeout: float = KNOCK_S) -> None:
    with socket.create_connection((host, port), timeout):
        pass


def _answers(host: str, port: int) -> bool:
    try:
        _knock(host, port)
    except OSError:
        return False
    return True


def _temp_folder() -> Path:
    """A new short folder for Ray's sockets and logs."""
    parent = tempfile.gettempdir()
    if len(parent) > LONGEST_TEMP:
        parent = "/tmp"  # noqa: S108 - mkdtemp below makes a private folder in it
    try:
        return Path(tempfile.mkdtemp(prefix=files.temporary_prefix(), dir=parent))
    except OSError as error:
        raise RayError(
            f"cannot start a local Ray: {parent} cannot be written ({error.strerror}); "
            "set TMPDIR to a folder that can"
        ) from None
