"""First steps of a process of ours, whichever way it was started: script, command, flow run."""

import atexit
import ctypes
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, TextIO

from lifecycle.redaction import redact

TELEMETRY = {
    "DO_NOT_TRACK": "1",  # Prefect's SDK, which reports its import, and MLflow
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Nothing we run tells its makers of it, here or in a child; a variable set outside wins."""
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
PR_SET_PDEATHSIG = 1
PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def prepare_process() -> None:
    """Prepare a script or command: no telemetry, loopback without a proxy, a screen that takes any
    character, and no secret in a log line or traceback."""
    no_telemetry()
    direct_loopback()
    for stream in (sys.stdout, sys.stderr):
        _take_any_character(stream)
    redact_records()
    sys.excepthook = _print_traceback


def redact_records() -> None:
    """Have every log record from now on without secrets, whichever handler takes it.

    What another library's factory adds to records stays.
    """
    former: Any = logging.getLogRecordFactory()
    if isinstance(former("", logging.INFO, "", 0, "", (), None), _Record):
        return

    def make(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = _Record(*args, **kwargs)
        vars(record).update(vars(former(*args, **kwargs)) | vars(record))
        return record

    logging.setLogRecordFactory(_Record if former is logging.LogRecord else make)


def no_telemetry() -> None:
    """Switch off what libraries send to their makers. Prefect reads it when it is imported."""
    for name, value in TELEMETRY.items():
        os.environ.setdefault(name, value)


def direct_loopback() -> None:
    """Keep what is on this machine away from a proxy, for this process and its children."""
    if not any(os.environ.get(name) or os.environ.get(name.upper()) for name in PROXIES):
        return
    listed = [os.environ.get(name, "") for name in ("no_proxy", "NO_PROXY")]
    hosts = [host.strip() for text in listed for host in text.split(",") if host.strip()]
    if "*" in hosts:
        return
    merged = ",".join(dict.fromkeys((*hosts, *LOOPBACK_HOSTS)))
    # libraries differ in which of the two they read
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = merged


def end_process(code: int) -> NoReturn:
    """End as `sys.exit` does, without taking the libraries apart object by object.

    Threads are waited for, exit handlers run and streams are flushed. What the interpreter does
    after that is a tenth of a short script's time, and of no use to anybody. It calls the same two
    private functions before; they have no public names.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # typeshed leaves it out
    with suppress(Exception):  # it has printed what went wrong
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os._exit(code)


@contextmanager
def without_package(package: str) -> Iterator[None]:
    """Hide a package from the imports in the block, unless it is imported already.

    XGBoost imports scikit-learn wherever it is installed, for estimators that predicting never
    uses; it does without if that fails, which makes a replica or a script start sooner and smaller.
    """
    if package in sys.modules or "xgboost" in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]  # how the import system marks "no"
    try:
        yield
    finally:
        del sys.modules[package]


def die_with_parent() -> None:
    """Runs in a child, on Linux: the kernel ends it when its parent dies, even by SIGKILL."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def process_start(process: int) -> str:
    """Start of a process of this machine by the kernel's count; empty if it has ended.

    Without /proc, as on macOS, all that is known is whether it runs.
    """
    if sys.platform != "linux":
        with suppress(ProcessLookupError, PermissionError, OverflowError):
            os.kill(process, 0)
            return "running"
        return ""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return ""
    state, *fields = stat.rpartition(") ")[2].split()  # the name before may hold anything
    return "" if state in ("Z", "X") else fields[18]


def process_age() -> float:
    """Seconds since this process began, whatever program it ran before."""
    if sys.platform != "linux":
        import psutil

        return max(time.time() - psutil.Process().create_time(), 0.0)
    # psutil would take the start of the machine in whole seconds
    start = int(process_start(os.getpid())) / os.sysconf("SC_CLK_TCK")
    return max(time.clock_gettime(time.CLOCK_BOOTTIME) - start, 0.0)


def _take_any_character(stream: TextIO | Any) -> None:
    """A terminal of another encoding shows `?` where it lacks a character."""
    if hasattr(stream, "reconfigure") and stream.errors in ("strict", "surrogateescape"):
        stream.reconfigure(errors="replace")


class _Record(logging.LogRecord):
    """A log record without secrets, in its message and in its traceback."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.exc_info and self.exc_info[0]:
            self.exc_text = redact("".join(traceback.format_exception(*self.exc_info))).rstrip()

    def getMessage(self) -> str:
        return redact(super().getMessage())


def _print_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace))))
