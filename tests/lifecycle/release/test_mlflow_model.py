"""A registered model on its own: what it says of itself, and an environment made from it alone."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import mlflow
import numpy as np
import pytest
from click.testing import CliRunner
from mlflow.models import cli as models

from lifecycle.features.encode import encode
from lifecycle.project import Project
from lifecycle.release.mlflow_model import _distributions
from lifecycle.release.mlflow_store import connect
from lifecycle.release.model_wheel import write_wheel
from lifecycle.runtime.servers import HOST, Process, free_port, server
from lifecycle.settings import Settings
from lifecycle.training.bundle import load_bundle
from tests.support.prefect_server import wait_for

PYENV = shutil.which("pyenv") or shutil.which("pyenv", path=Path.home() / ".pyenv" / "bin")
HAS_PYTHON = Path(sys.base_prefix, "bin", "python").exists()  # Debian's has another name
MANAGERS = ("uv", "virtualenv") if PYENV and HAS_PYTHON else ("uv",)
"""MLflow's virtualenv asks pyenv for a Python, which is nowhere to be had as a package."""
HOOK = """
import scipy.special

def build(inputs):
    return inputs.assign(old=scipy.special.expit((inputs["age"] - 60) / 10))
"""


def test_equal_code_makes_an_equal_wheel_that_names_what_answering_needs(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path)
    content = wheel.read_bytes()
    assert write_wheel(tmp_path).read_bytes() == content
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        [metadata] = [name for name in names if name.endswith("METADATA")]
        lines = archive.read(metadata).decode().splitlines()
    assert "lifecycle/training/pyfunc.py" in names
    version = next(line for line in lines if line.startswith("Version"))
    assert "+model." in version, "an index could have it"
    needed = [line.split()[1] for line in lines if line.startswith("Requires-Dist")]
    assert any(line.startswith("pandas") for line in needed)
    assert not [line for line in needed if line.startswith(("ray", "prefect", "mlflow"))]


def test_a_hook_brings_the_distributions_that_it_imports(tmp_path: Path) -> None:
    hook = tmp_path / "hook.py"
    hook.write_text("import json\nimport beside\nimport yaml\nfrom sklearn.base import clone\n")
    assert _distributions(hook) == ["PyYAML", "scikit-learn"]


@pytest.mark.component
def test_the_librarys_own_flavor_loads_the_same_model(small_model: Any) -> None:
    model = small_model.register().model
    booster = mlflow.xgboost.load_model(model.uri)
    holdout = small_model.holdout()
    schema = load_bundle(small_model.bundle.path).schema
    matrix = encode(holdout[list(schema.inputs)], schema.features)
    expected = small_model.expected(holdout)
    np.testing.assert_allclose(booster.inplace_predict(matrix), expected, atol=1e-7)


@pytest.mark.component
def test_a_graph_loads_as_onnx(
    make_project: Callable[..., Project], train: Callable[..., Any], settings: Settings
) -> None:
    forest = {"trainer": "sklearn:ensemble.ExtraTreesClassifier"}
    model = train(make_project(training=forest), settings).register().model
    graph = mlflow.onnx.load_model(model.uri)
    assert graph.graph.output[-1].name == "probabilities"


@pytest.mark.component
def test_metrics_are_of_the_model_and_of_the_dataset_they_were_measured_on(
    small_model: Any,
) -> None:
    model = small_model.register().model
    client = connect(small_model.settings)
    run = client.get_run(model.run_id)
    [entry] = client.search_logged_models([run.info.experiment_id])
    datasets = {metric.key: metric.dataset_name for metric in entry.metrics}
    assert datasets["holdout/roc_auc"] == "holdout"
    assert datasets["curve/validation"] == "validation"
    assert datasets["rounds"] is None
    assert not [name for name in datasets if name.startswith("baseline/")]
    assert entry.params == run.data.params
    holdout = next(i.dataset for i in run.inputs.dataset_inputs if i.dataset.name == "holdout")
    columns = json.loads(holdout.schema)["mlflow_colspec"]
    assert {"name": "age", "required": False, "type": "double"} in columns
    assert run.data.tags["mlflow.source.git.dirty"] in ("true", "false")
    description = client.get_model_version("small", "1").description
    assert "# Model card: small" in description
    assert entry.tags["mlflow.note.content"] == run.data.tags["mlflow.note.content"] == description


@pytest.mark.component
@pytest.mark.parametrize("manager", [None, "virtualenv"])
def test_a_dockerfile_copies_the_model_and_installs_what_it_needs(
    small_model: Any, tmp_path: Path, manager: str | None
) -> None:
    """By `mlflow models generate-dockerfile`, whose folder `build-docker` hands to Docker."""
    model, folder = small_model.register().model, tmp_path / "image"
    options = ["--env-manager", manager] if manager else []
    command = ["generate-dockerfile", "-m", model.uri, "-d", str(folder), *options]
    answer = CliRunner().invoke(models.commands, command, catch_exceptions=False)
    assert answer.exit_code == 0, answer.output
    text = (folder / "Dockerfile").read_text()
    base = "ubuntu:24.04" if manager else f"python:{platform.python_version()}-slim"
    assert f"FROM {base}\n" in text
    [source] = re.findall(r"^COPY (\S+) /opt/ml/model$", text, re.MULTILINE)
    assert (folder / source / "MLmodel").is_file()
    lines = (folder / source / "requirements.txt").read_text().splitlines()
    assert "--find-links code" in lines
    assert list((folder / source / "code").glob("lifecycle_flows-*.whl"))
    assert f"'/opt/ml/model', install_mlflow=False, env_manager='{manager or 'local'}'" in text
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [hadolint, "--failure-threshold", "error", folder / "Dockerfile"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.system
@pytest.mark.alone
def test_a_model_is_served_from_an_environment_made_from_it_alone(
    make_project: Callable[..., Project],
    train: Callable[..., Any],
    settings: Settings,
    tmp_path: Path,
) -> None:
    """By `mlflow models serve`: packages come from the index, ours from the model."""
    (tmp_path / "scaled.py").write_text(HOOK)
    made = train(make_project(features="scaled:build"), settings)
    model = made.register().model
    # pyenv would compile a Python that it does not have; this one is linked, wherever it is from
    pythons = tmp_path / "pyenv" / "versions"
    pythons.mkdir(parents=True)
    (pythons / platform.python_version()).symlink_to(sys.base_prefix)
    programs = Path(sys.executable).parent
    variables = {
        "PATH": os.pathsep.join([str(programs), os.environ["PATH"], str(Path(PYENV or "").parent)]),
        "PYENV_ROOT": str(pythons.parent),
        "PIP_NO_COMPILE": "1",  # 20 s less
        "MLFLOW_TRACKING_URI": settings.tracking_uri,
    }
    frame = made.holdout()[list(made.project.input_columns)].head(5)
    records = {"dataframe_split": json.loads(frame.to_json(orient="split"))}
    with ExitStack() as stack:
        begun = {}
        for manager in MANAGERS:  # side by side: most of it is reading and writing files
            port, log = free_port(), tmp_path / f"{manager}.log"
            serve = [str(programs / "mlflow"), "models", "serve", "--model-uri", model.uri]
            serve += ["--env-manager", manager, "--host", HOST, "--port", str(port)]
            root = {"MLFLOW_ENV_ROOT": str(tmp_path / manager)}
            process = stack.enter_context(server(serve, variables | root, log))
            begun[manager] = process, log, f"http://{HOST}:{port}"
        for manager, (process, log, url) in begun.items():
            wait_for(partial(answers, process, log, url), 500, f"the model server of {manager}")
            answer = httpx.post(f"{url}/invocations", json=records, trust_env=False, timeout=60)
            assert answer.status_code == 200, answer.text
            np.testing.assert_array_equal(answer.json()["predictions"], made.expected(frame))
    for manager in MANAGERS:
        installed = [path.name for path in tmp_path.glob(f"{manager}/**/site-packages/*.dist-info")]
        assert [name for name in installed if name.startswith("lifecycle_flows-0.1.0+model.")]
        assert not [name for name in installed if name.startswith(("ray-", "prefect-"))]


def answers(process: Process, log: Path, url: str) -> bool:
    assert process.poll() is None, log.read_text()[-3000:]
    try:
        return httpx.get(f"{url}/ping", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
