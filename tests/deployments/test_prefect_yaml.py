"""prefect.yaml: entrypoints import, parameters fit the flows, variables are defined everywhere."""

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from lifecycle.settings import Settings

ROOT = Path(__file__).parents[2]
DECLARED = yaml.safe_load((ROOT / "prefect.yaml").read_text())
DEPLOYMENTS: list[dict[str, Any]] = DECLARED["deployments"]
FLOWS = {"prepare", "train", "release", "score", "monitor", "retrain", "end_to_end"}
FLOWS |= {"erase", "retention", "promote"}
ENVIRONMENTS = ("dev", "staging", "prod")


def variables(file: Path) -> dict[str, str]:
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize("declared", DEPLOYMENTS, ids=lambda d: f"{d['entrypoint']}-{d['name']}")
def test_entrypoint_and_parameters_fit(declared: dict[str, Any]) -> None:
    module, name = declared["entrypoint"].rsplit(".", 1)
    flow = getattr(importlib.import_module(module), name)
    signature = inspect.signature(flow.fn)
    signature.bind_partial(**declared["parameters"])
    needed = {k for k, p in signature.parameters.items() if p.default is inspect.Parameter.empty}
    assert needed <= set(declared["parameters"])
    assert declared["parameters"]["env"] == declared["name"]
    assert declared["work_pool"]["job_variables"]["env"]["LIFECYCLE_ENV"] == declared["name"]


def test_every_flow_has_every_environment() -> None:
    found = {(d["entrypoint"].split(".")[1], d["name"]) for d in DEPLOYMENTS}
    assert found == {(flow, env) for flow in FLOWS for env in ENVIRONMENTS}


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_every_variable_is_defined_in_each_env_file(env: str) -> None:
    used = set(re.findall(r"\{\{\s*\$(\w+)\s*\}\}", (ROOT / "prefect.yaml").read_text()))
    assert used, "prefect.yaml uses no variable: the pattern of this test is wrong"
    defined = variables(ROOT / "deployments" / f"{env}.env")
    assert {name for name in used if not defined.get(name)} == set()


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
