"""Log lines are those of the Elastic Common Schema, say whose work they are, and hold no secret."""

import io
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lifecycle.redaction import remember
from lifecycle.runtime import logs
from lifecycle.runtime.logs import begin_logs, end_logs, worker_environment
from lifecycle.runtime.ray_internals import SETUP_HOOK
from lifecycle.runtime.run import Run, add_labels, labelled, running
from lifecycle.settings import Settings
from tests.support.planted import SECRETS

RUN = Run(id="0f7a7c9e-53f1-4c0e-9d0c-6b1f5d3c8a11", name="train-small", flow="train")
TYPES: dict[str, type | tuple[type, ...]] = {
    "keyword": str,
    "constant_keyword": str,
    "wildcard": str,
    "match_only_text": str,
    "date": str,
    "long": int,
    "object": dict,
}


@pytest.fixture(autouse=True)
def _end_logs() -> Iterator[None]:
    level, factory = logging.getLogger("lifecycle").level, logging.getLogRecordFactory()
    logging.captureWarnings(False)  # whoever captured them before, pytest has taken it back
    yield
    end_logs()
    logging.setLogRecordFactory(factory)
    logging.getLogger("lifecycle").setLevel(level)


@pytest.fixture
def json_settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"env": "prod"})


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def flat(line: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in line.items():
        if isinstance(value, dict) and f"{prefix}{name}" != "labels":
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def access_fields() -> dict[str, Any]:
    from lifecycle.serving.access import Outcome, RequestReports
    from tests.support.log_writer import model_of

    scope = {
        "method": "POST",
        "path": "/small/predict",
        "headers": [(b"traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01")],
    }
    access = RequestReports(Settings(env="prod"), model_of("small", 3))
    outcome = Outcome(3, "4711", 200)
    outcome.key, outcome.route = "shop", "/predict"
    visit = access.begin(scope)
    visit.end(outcome, 0.25)
    return {"trace.id": "a" * 32, "span.id": "b" * 16}


def test_in_dev_nothing_changes(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    handlers = list(logging.root.handlers)
    begin_logs(settings)
    assert logging.root.handlers == handlers
    with running(RUN):
        assert worker_environment(settings) == {}
        joined = worker_environment(Settings(env="prod", ray_address="10.0.0.2:6379"))
        outside = worker_environment(Settings(env="prod", ray_address="ray://10.0.0.2:10001"))
    assert SETUP_HOOK not in joined["env_vars"], "Ray sets it"
    assert outside["env_vars"].pop(SETUP_HOOK) == joined["worker_process_setup_hook"]
    assert outside == joined
    assert Settings(env="prod").has_json_logs
    assert not Settings(env="prod", log_format="text").has_json_logs


def test_a_line_says_whose_work_it_is(
    json_settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    begin_logs(json_settings, project="small")
    log = logging.getLogger("lifecycle.progress")
    with running(RUN), labelled(task="fit"):
        add_labels(model="small", model_version="7")
        log.info("fitted", extra={"stage": "train", "phase": "result"})
        log.info("fitted", extra={"stage": "train", "phase": "end"})
        with running(Run(id="1" * 8 + RUN.id[8:], flow="prepare")):
            log.warning("inside")
    log.info("outside")
    fitted, inside, outside = lines(capsys)
    assert fitted["message"] == "fitted"
    assert (fitted["log.level"], inside["log.level"]) == ("info", "warning")
    assert fitted["service"] == {"name": "lifecycle", "environment": "prod"}
    assert fitted["labels"] == {
        "project": "small",
        "flow_run_id": RUN.id,
        "flow_run": "train-small",
        "flow": "train",
        "task": "fit",
        "stage": "train",
        "model": "small",
        "model_version": "7",
    }
    assert fitted["trace"]["id"] == inside["trace"]["id"] == RUN.id.replace("-", "")
    assert inside["labels"]["flow"] == "prepare"
    assert outside["labels"] == {"project": "small"}
    assert "trace" not in outside


def test_prefects_loggers_and_those_of_others_are_lines_too(
    json_settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    apart = logging.getLogger("somebody.apart")
    apart.propagate = False
    apart.addHandler(logging.StreamHandler(sys.stderr))
    begin_logs(json_settings)
    begin_logs(json_settings)
    apart.warning("alone")
    attributes = {"flow_run_id": RUN.id, "flow_run_name": "wise-owl", "task_run_name": "<unknown>"}
    logging.getLogger("prefect.flow_runs").warning("late", extra=attributes)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", UserWarning, stacklevel=1)
    apart.removeHandler(logs._lines)
    # Prefect may start a server for a line of a flow run, and tell of it
    alone, late, old = (line for line in lines(capsys) if "server" not in line["message"])
    assert alone["log"]["logger"] == "somebody.apart"
    assert late["labels"] == {"flow_run_id": RUN.id, "flow_run": "wise-owl"}
    assert "UserWarning: old" in old["message"]


def test_lines_stay_lines_when_ray_begins(
    json_settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ray was imported before logs began, and so its logger has our handler, too."""
    import ray
    from ray._private.ray_logging import setup_logger

    logger = logging.getLogger("ray")
    former = logger.level, list(logger.handlers)
    assert ray.__version__
    logger.handlers[:] = [logging.StreamHandler()]  # its own wrote to the screen of the first test
    begin_logs(json_settings)
    try:
        assert logs._lines in logger.handlers
        setup_logger(logging.ERROR, "%(message)s")  # as `ray.init` does
        logging.getLogger("lifecycle.progress").warning("joined")
    finally:
        logger.handlers[:] = former[1]
        logger.setLevel(former[0])
    (line,) = lines(capsys)
    assert line["message"] == "joined"


def test_in_a_replica_lines_pass_by_what_ray_serve_has_for_a_stream(
    json_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.serve._private.logging_utils import StreamToLogger

    real = io.StringIO()
    monkeypatch.setattr(sys, "__stderr__", real)
    redirected = StreamToLogger(logging.getLogger("ray.serve"), logging.INFO, sys.stderr)
    monkeypatch.setattr(sys, "stderr", redirected)
    begin_logs(json_settings)
    logging.getLogger("lifecycle.x").info("one")
    assert json.loads(real.getvalue())["message"] == "one"


def test_every_field_is_of_the_schema(
    json_settings: Settings, capsys: pytest.CaptureFixture[str], shared_schemas: Path
) -> None:
    schema = yaml.load((shared_schemas / "ecs_flat.yml").read_text(), yaml.CSafeLoader)
    begin_logs(json_settings, project="small")
    with running(RUN), labelled(task="fit"):
        logging.getLogger("lifecycle.x").info("one", extra={"mine": {"a": 1}, "stage": "train"})
        try:
            raise ValueError("no such column")
        except ValueError:
            logging.getLogger("lifecycle.x").exception("it failed", stack_info=True)
    ids = access_fields()
    one, failed, access = found = lines(capsys)
    assert "mine" not in one
    assert failed["error"]["type"] == "ValueError"
    assert "raise ValueError" in failed["error"]["stack_trace"]
    assert access["event.duration"] == 250_000_000
    assert access["user.name"] == "shop"
    assert ids.items() <= access.items()
    for line in found:
        assert list(line)[:3] == ["@timestamp", "log.level", "message"]
        for name, value in flat(line):
            field = schema[name]
            assert isinstance(value, TYPES[field["type"]] if not field["normalize"] else list), name
            if allowed := [one["name"] for one in field.get("allowed_values", ())]:
                assert {value} if isinstance(value, str) else set(value) <= set(allowed), name
        assert all(isinstance(value, str) for value in line["labels"].values())


def test_no_secret_is_in_a_line(
    json_settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    remember('planted "quoted" one')
    begin_logs(json_settings, note=SECRETS["AWS_SESSION_TOKEN"])
    log = logging.getLogger("lifecycle.x")
    for value in (*SECRETS.values(), 'planted "quoted" one'):
        with labelled(about=value):
            log.info("at %s", value, extra={"mine": value})
        try:
            raise KeyError(value)
        except KeyError:
            log.exception(value)
    found = lines(capsys)
    assert len(found) == 2 * (len(SECRETS) + 1), "each is JSON all the same"
    assert "planted" not in str(found)
