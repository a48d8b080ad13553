"""prefect.yaml: entrypoints import, parameters fit the flows, no environment is named."""

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from lifecycle.environments import environments
from lifecycle.settings import Settings
from tasks.deployments import find_target, read_declarations

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "prefect.yaml").read_text()
DEPLOYMENTS: list[dict[str, Any]] = yaml.safe_load(TEXT)["deployments"]
FLOWS = {"prepare", "train", "release", "score", "monitor", "retrain", "end_to_end"}
FLOWS |= {"erase", "retention", "promote", "monitor_live"}
ENVIRONMENTS = ("dev", "staging", "prod")


def variables(file: Path) -> dict[str, str]:
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize("declared", DEPLOYMENTS, ids=lambda d: d["entrypoint"])
def test_entrypoint_and_parameters_fit(declared: dict[str, Any]) -> None:
    module, name = declared["entrypoint"].rsplit(".", 1)
    flow = getattr(importlib.import_module(module), name)
    signature = inspect.signature(flow.fn)
    signature.bind_partial(**declared["parameters"])
    needed = {k for k, p in signature.parameters.items() if p.default is inspect.Parameter.empty}
    assert needed <= set(declared["parameters"])
    assert declared["parameters"]["env"] == "{{ $LIFECYCLE_ENV }}"
    assert "LIFECYCLE_ENV" in declared["work_pool"]["job_variables"]["env"]


def test_every_flow_has_one_entry_and_every_schedule_a_time_zone_and_a_slug() -> None:
    assert [d["entrypoint"].split(".")[1] for d in DEPLOYMENTS].count("train") == 1
    assert {d["entrypoint"].split(".")[1] for d in DEPLOYMENTS} == FLOWS
    schedules = [schedule for d in DEPLOYMENTS for schedule in d.get("schedules", ())]
    assert {(s["timezone"], s["active"], bool(s["slug"])) for s in schedules} == {
        ("{{ $LIFECYCLE_TIMEZONE }}", "{{ $LIFECYCLE_SCHEDULES }}", True),
        ("{{ $LIFECYCLE_TIMEZONE }}", "{{ $LIFECYCLE_LIVE }}", True),
    }


def test_no_environment_is_named() -> None:
    told = re.sub(r"(?m)^\s*#.*$", "", TEXT)
    assert not re.search(rf"\b({'|'.join(environments())})\b", told)


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_every_variable_is_set_for_each_environment(
    env: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("LIFECYCLE_PROJECT", raising=False)
    target = find_target(env)
    assert len(read_declarations(target)) == len(FLOWS)
    assert (target.name, target.project) == (env, "health_visits")
    assert target.variables["LIFECYCLE_SCHEDULES"] == ("off" if env == "dev" else "on")
    assert target.variables["LIFECYCLE_LIVE"] == "off", "not declared"


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_every_variable_of_an_env_file_is_known(env: str) -> None:
    known = {f"LIFECYCLE_{name}".upper() for name in Settings.model_fields}
    deploying = {"LIFECYCLE_WORKSPACE", "LIFECYCLE_PROJECT"}
    assert set(variables(ROOT / "deployments" / f"{env}.env")) <= known | deploying


def test_no_flow_file_hides_a_module_it_imports() -> None:
    """As a script, a flow's folder comes first on sys.path."""
    import sys

    installed = {
        path.name
        for path in Path(importlib.import_module("ray").__file__ or "").parents[1].iterdir()
    }
    names = {path.stem for path in (ROOT / "flows").glob("*.py")} - {"__init__"}
    assert names & (set(sys.stdlib_module_names) | installed) == set()
