"""Every error a user can meet, in one tree.

    LifecycleError                something is wrong; the message says what, where and what to do
    ├── ProjectError              the project file: unknown key, wrong type, contradiction
    ├── SettingsError             where it runs: unknown environment, unusable folder
    ├── DataError                 the data
    │   ├── SourceError           missing, unreadable or empty source
    │   ├── ContractError         the data break the contract by more than it allows
    │   ├── TargetError           constant target, one class only, missing target
    │   └── SplitError            a part of the split would be empty
    ├── FeatureError              the features hook cannot be loaded or returns something unusable
    ├── TrainingError             tuning or training could not finish
    ├── GateError                 a gate is closed and nothing else can go on
    ├── BundleError               a model bundle is incomplete, changed or foreign
    ├── RegistryError             a model version or alias that is asked for does not exist
    ├── OvertakenError            somebody else has changed a project's versions meanwhile
    ├── RequestError              a prediction request with a missing or wrong-typed field (422)
    │   ├── MalformedRequestError it is no JSON or not of the protocol's shape (400)
    │   ├── RequestTooLargeError  more bytes, rows or nesting than allowed (413)
    │   ├── NotServedError        no such path, model or version (404)
    │   ├── AccessError           no valid API key (401)
    │   └── RateLimitError        more requests a second than the key allows (429)
    └── BackendError              a service that should be there is not; trying again may help
        ├── RayError              Ray cannot be started or reached
        ├── PortInUseError        the port to serve on is taken
        ├── UnavailableError      the endpoint is late, busy or gone: no verdict on a model
        └── ServingError          the endpoint does not answer as the offline model does

Each carries only its message, so that it crosses process borders unchanged. A message never holds a
secret of this process: whoever raises it may quote a library or a URL.
"""

import errno
import logging
import re

from lifecycle.redaction import redact

logger = logging.getLogger(__name__)


class LifecycleError(Exception):
    """Base of every error this project raises on purpose; a script ends with exit code 2 on it."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(redact(arg) if isinstance(arg, str) else arg for arg in args))


class ProjectError(LifecycleError):
    """The project file cannot be used; the message names the file, the line and the key."""


class SettingsError(LifecycleError):
    """The settings of an environment cannot be used."""


class DataError(LifecycleError):
    """The data cannot be used; running again on the same data will not help."""


class SourceError(DataError):
    """The source is missing, unreadable or empty."""


class ContractError(DataError):
    """The data break their contract by more than it allows, or it breaks the one before it."""


class TargetError(DataError):
    """The target is missing, constant or has one class only."""


class SplitError(DataError):
    """A part of the split would be empty."""


class FeatureError(LifecycleError):
    """The features hook cannot be loaded, fails, or returns something unusable."""


class TrainingError(LifecycleError):
    """Tuning or training could not finish."""


class GateError(LifecycleError):
    """A gate is closed, and what comes next cannot do without what it holds back."""


class BundleError(LifecycleError):
    """A model bundle is incomplete, changed since it was written, or made for other code."""


class RegistryError(LifecycleError):
    """A model version or alias that is asked for does not exist."""


class OvertakenError(LifecycleError):
    """Somebody else has changed a project's versions since they were looked at."""


class RequestError(LifecycleError):
    """A prediction request has a missing, unknown or wrong-typed field."""

    status = 422

    def __init__(self, *args: object) -> None:
        # it quotes its sender alone, whom a hidden word would tell that it is a secret here
        Exception.__init__(self, *args)


class MalformedRequestError(RequestError):
    """A request is no JSON, or not of the shape its protocol has."""

    status = 400


class RequestTooLargeError(RequestError):
    """A request has more bytes, rows or nesting than allowed."""

    status = 413


class NotServedError(RequestError):
    """There is no such path, model or version."""

    status = 404


class AccessError(RequestError):
    """A request has no API key, or one that is not valid."""

    status = 401


class RateLimitError(RequestError):
    """A key sends more requests than it may; the client should wait before the next."""

    status = 429
    retry_after = 1
    """Seconds until the next request can be answered."""


class BackendError(LifecycleError):
    """A service that should be there is not; trying again may help."""


class RayError(BackendError):
    """Ray cannot be started or reached."""


class PortInUseError(BackendError):
    """The port to serve on is taken by another process."""


class UnavailableError(BackendError):
    """The endpoint, or what it stands on, is late, busy or gone; that says nothing of a model."""


class ServingError(BackendError):
    """A model cannot be served, or the endpoint does not answer as the offline model does."""


VERDICTS = (ServingError, BundleError, FeatureError, RequestError, DataError)


def is_verdict(error: BaseException) -> bool:
    """Return whether an error blames the model, rather than the service that runs it.

    A service that is late or absent, wrong settings, a bug of this program or an interruption say
    nothing about the model.
    """
    return isinstance(error, VERDICTS)


CAUSE = re.compile(r"\s*(?:\x1b\[\d+m)?↳(?:\x1b\[\d+m)?\s*")
MESSAGE = re.compile(r"<Message>(.*?)</Message>", re.DOTALL)
QUERY = re.compile(r"(?<=[^\s?])\?(?=\S*=)\S*")


def first_line(error: BaseException) -> str:
    """One line of an error: the first of its message, with the causes that Delta lists below it.

    An error without a message is named by its type. Of an answer of object storage only the message
    is given, and of an address no query: it may hold a signature.
    """
    lines = []
    for cause in CAUSE.split(str(error).strip()):
        answer = MESSAGE.search(cause)
        line = answer[1] if answer else next(iter(cause.splitlines()), "")
        lines.append(QUERY.sub("", line.strip()))
    return ": ".join(filter(None, lines)) or type(error).__name__


def ray_reason(error: BaseException) -> str:
    """One line of an error of Ray's: what the task raised with its type, else its first line.

    Such an error often goes on with the traces of several processes; they are logged. A first line
    that only announces a trace is followed by the trace's last line.
    """
    logger.debug("Ray's error", exc_info=error)
    cause: BaseException | None = getattr(error, "cause", None)
    if cause:
        return f"{type(cause).__name__}: {first_line(cause)}"
    line, *trace = str(error).strip().splitlines() or [""]
    if trace and line.endswith(":"):
        return f"{line} {first_line(Exception(trace[-1]))}"
    return first_line(error)


def full_disk(error: OSError) -> str:
    """Return the message for a disk or a quota that is full; empty for any other error."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return ""
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror}; make room, then run again: it goes on where it stopped"
