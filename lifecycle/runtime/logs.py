"""Logs as lines of JSON on standard error, in the fields of the Elastic Common Schema (ECS).

One place for every process: a flow run, a Ray worker, a replica. Each line has the environment, and
where there are such the run, flow, task, model version and trace. What ECS has no field for is a
label: https://www.elastic.co/docs/reference/ecs/ecs-base#field-labels
"""

import io
import json
import logging
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from ecs_logging import StdlibFormatter

from lifecycle.redaction import redact
from lifecycle.runtime.process import redact_records
from lifecycle.runtime.ray_internals import SETUP_HOOK
from lifecycle.runtime.run import current_labels, current_run, current_trace, work_for
from lifecycle.runtime.traces import begin_traces, current_ids, outgoing
from lifecycle.settings import Settings

CONTEXT = "LIFECYCLE_LOG_CONTEXT"
"""Variable by which a Ray worker learns whose work it does."""
WORKER_SETTINGS = {"log_format", "traces", "traces_share"}
"""Settings that go with the work to a worker, whose node may not have the environment's file."""
FIELDS = "ecs"
"""Attribute of a record with fields of the schema, as `extra={FIELDS: {"http.…": …}}` adds them."""
LOG, ACCESS = "lifecycle.log", "lifecycle.access"
"""Data sets; the second is also the name of the logger of requests."""
PREFECT_LABELS = {
    "flow_run_id": "flow_run_id",
    "flow_run_name": "flow_run",
    "flow_name": "flow",
    "task_run_id": "task_run_id",
    "task_run_name": "task_run",
    "task_name": "task",
    "stage": "stage",
}
"""Attributes that Prefect and `tasks.progress` give a record → labels."""
UNSAID = ("end", "detail")
"""Phases of `tasks.progress` that only move a live line."""
LONGEST = 32_000
"""Characters of a text: what collects the lines cuts or drops longer ones."""


class EcsFormatter(StdlibFormatter):
    """A record as a line of JSON without secrets.

    Args:
        environment: name of the environment.
        labels: those of each line of this process.
    """

    def __init__(self, environment: str, labels: Mapping[str, str]) -> None:
        super().__init__(exclude_fields=("log.original", "process.name"), ensure_ascii=False)
        self._labels = dict(labels)
        self._version = {"ecs.version": super().format_to_ecs(_plain_record())["ecs.version"]}
        self._fixed = {
            "service.name": "lifecycle",
            "service.environment": environment,
            "host.hostname": socket.gethostname(),
        }

    def format(self, record: logging.LogRecord) -> str:
        """The line. A request's is built without the library, which takes nine times as long."""
        return self._request(record) if record.name == ACCESS else super().format(record)

    def format_to_ecs(self, record: logging.LogRecord) -> dict[str, Any]:
        """The fields of a record; only what the schema has, and labels."""
        plain = _plain_record()  # libraries' factories add attributes to those that they make
        vars(plain).update(
            {name: value for name, value in vars(record).items() if name in STANDARD}
        )
        plain.msg, plain.args = record.getMessage(), None
        labels = self._labels | current_labels()
        for attribute, label in PREFECT_LABELS.items():
            if (value := getattr(record, attribute, None)) and value != "<unknown>":
                labels[label] = str(value)
        for name, value in (self._fixed | {"event.dataset": LOG} | current_ids()).items():
            setattr(plain, name, value)
        fields: dict[str, Any] = super().format_to_ecs(plain)
        _redact_in_place([fields, error] if (error := fields.get("error")) else [fields], labels)
        if labels:
            fields["labels"] = labels
        return fields

    def _request(self, record: logging.LogRecord) -> str:
        import orjson  # a replica has it; commands need not

        own: dict[str, Any] = vars(record)[FIELDS]
        time = datetime.fromtimestamp(record.created, UTC).replace(tzinfo=None)
        fields = {
            "@timestamp": f"{time.isoformat(timespec='milliseconds')}Z",
            "log.level": "info",
            "message": logging.LogRecord.getMessage(record),  # redacted already
            "event.dataset": ACCESS,
            **self._version,
            **self._fixed,
            **own,
            "labels": self._labels | own["labels"],
        }
        return orjson.dumps(fields).decode()


def _plain_record() -> logging.LogRecord:
    return logging.LogRecord("", logging.INFO, "", 0, "", (), None)


STANDARD = frozenset(vars(_plain_record()))
"""Attributes of every record; others are somebody's extras, which the schema does not have."""
TEXTS = ("message", "type", "stack_trace")
BREAK = "\x1f"
"""Between texts that are redacted in one go."""


def _redact_in_place(parts: list[dict[str, Any]], labels: dict[str, str]) -> None:
    """Redact the texts that somebody wrote, and cut those that are too long."""
    places = [(part, name) for part in parts for name in TEXTS if name in part]
    places += [(labels, name) for name in labels]
    texts = (str(part[name]).replace(BREAK, " ") for part, name in places)
    for (part, name), text in zip(places, redact(BREAK.join(texts)).split(BREAK), strict=True):
        part[name] = text[:LONGEST]


class _Lines(logging.StreamHandler[Any]):
    """The one handler; it writes to what standard error is at that time."""

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "phase", "") not in UNSAID:
            # in a replica Ray Serve has put its own logger in the place of the stream
            is_stream = isinstance(sys.stderr, io.TextIOBase)
            self.stream = sys.stderr if is_stream else sys.__stderr__
            super().emit(record)

    def setFormatter(self, fmt: logging.Formatter | None) -> None:
        """Take one of ours only: `ray.init` gives its own to all handlers of the logger `ray`."""
        if isinstance(fmt, EcsFormatter):
            super().setFormatter(fmt)


_lines = _Lines()


def begin_logs(settings: Settings, **labels: str) -> None:
    """Have this process log as the settings say; a second call changes the labels.

    With JSON, every handler that writes to the screen makes way for one that writes lines of JSON.

    Args:
        labels: of each line of this process, such as its model's version.
    """
    settings.hide_secrets()
    redact_records()
    work_for("", {})  # a replica is not of the run whose release began it
    begin_traces(settings)
    if not settings.has_json_logs:
        return
    _lines.setFormatter(EcsFormatter(settings.env, labels))
    for logger in _loggers():
        screens = [handler for handler in logger.handlers if _is_shown(handler)]
        for handler in screens:
            logger.removeHandler(handler)
        if logger is logging.root or (screens and not logger.propagate):
            logger.addHandler(_lines)
    logging.getLogger("lifecycle").setLevel(logging.INFO)
    logging.captureWarnings(True)


def end_logs() -> None:
    """Stop writing lines of JSON; for tests, since a process of ours ends with them."""
    for logger in _loggers():
        logger.removeHandler(_lines)
    logging.captureWarnings(False)


def _loggers() -> Iterator[logging.Logger]:
    yield logging.root
    for logger in list(logging.root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            yield logger


def _is_shown(handler: logging.Handler) -> bool:
    """Return whether a handler writes to the screen."""
    screens = (sys.stderr, sys.stdout, sys.__stderr__, sys.__stdout__)
    stream = getattr(handler, "stream", None)
    return handler is not _lines and stream is not None and stream in screens


# Ray workers: what the run that joined Ray is, as a variable, and a function that they begin with.


def worker_environment(settings: Settings) -> dict[str, Any]:
    """The `runtime_env` of a Ray job whose workers log, and are traced, as this process does.

    Nothing in an environment whose logs are text, and outside a run: workers then start as ever.
    """
    if not current_run().id or not (settings.has_json_logs or settings.traces):
        return {}
    context = {
        "env": settings.env,
        "logging": settings.model_dump(include=WORKER_SETTINGS),
        "labels": current_labels(),
        "trace": current_trace(),
        "parent": outgoing(),
    }
    hook = f"{__name__}.begin_in_worker"
    variables = {CONTEXT: json.dumps(context)}
    if settings.remote_ray:
        variables[SETUP_HOOK] = hook
    return {"env_vars": variables, "worker_process_setup_hook": hook}


def begin_in_worker() -> None:
    """Runs first in a Ray worker. Whatever is wrong, the worker does its work."""
    with suppress(Exception):
        context = json.loads(os.environ[CONTEXT])
        settings = _settings_of(context)
        begin_logs(settings)
        begin_traces(settings, context["parent"])
        work_for(context["trace"], context["labels"])


def _settings_of(context: dict[str, Any]) -> Settings:
    """The environment's settings; a node without its file knows at least how to log."""
    try:
        settings = Settings.load(context["env"])
    except Exception:
        settings = Settings.model_construct(env=context["env"])
    return settings.model_copy(update=context["logging"])
