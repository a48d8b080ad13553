"""The search is repeatable, survives a SIGKILL, never reads the holdout and never ends worse."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from lifecycle.errors import ProjectError, TrainingError
from lifecycle.training.evaluate import metric_value
from lifecycle.training.matrix import open_matrices
from lifecycle.training.train import fit_booster
from lifecycle.training.tune import tune

SPACE = {
    "max_depth": {"type": "int", "low": 1, "high": 6},
    "eta": {"type": "float", "low": 0.02, "high": 0.5, "log": True},
    "subsample": {"type": "float", "low": 0.5, "high": 1.0},
    "grow_policy": {"type": "choice", "values": ["depthwise", "lossguide"]},
}
TUNING = {"trials": 16, "workers": 2, "space": SPACE}
TRAINING = {"rounds": 10, "early_stopping_rounds": 5, "parameters": {"eta": 0.1, "max_depth": 3}}

CHILD = """
import sys, time
from pathlib import Path
from lifecycle.cluster import connect_ray
from lifecycle.project import load_project
from lifecycle.records import DatasetVersion
from lifecycle.settings import Settings
from lifecycle.training.tune import tune

project, train, validation, folder, address = sys.argv[1:]

def on_trial(told, total, best):
    print(told, flush=True)
    if told == 6:
        time.sleep(600)  # until the SIGKILL, with trials 7 and 8 on the workers

with connect_ray(Settings(ray_address=address)):
    parts = [DatasetVersion.model_validate_json(part) for part in (train, validation)]
    tune(load_project(project), *parts, Path(folder), on_trial)
"""


def quiet(told, total, best):
    pass


def journal(folder: Path) -> list[dict]:
    """The trials on disk, in the order they were kept."""
    lines = (folder / "journal.log").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if entry["op_code"] == 4]


@pytest.fixture
def tunable(make_project, prepare):
    project = make_project(tuning=TUNING, training=TRAINING)
    return project, prepare(project)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_killed_and_resumed_equals_uninterrupted(tunable, tmp_path):
    """One story, since each start of workers costs seconds: whole, killed, resumed, done."""
    project, split = tunable
    shutil.rmtree(split.holdout.uri)  # nothing below can read it
    seen: list[tuple[int, int, float | None]] = []
    whole = tune(
        project, split.train, split.validation, tmp_path / "whole", lambda *now: seen.append(now)
    )
    assert [told for told, _, _ in seen] == list(range(1, 17))
    assert [best for _, _, best in seen] == sorted(best for _, _, best in seen)
    assert seen[-1] == (16, 16, whole.value)
    assert (whole.trials, whole.pruned) == (16, 0)

    # the first trial is the project's own parameters: tuning does not end worse
    data = open_matrices(project, split.train, split.validation)
    own = fit_booster(project, data, TRAINING["parameters"]).inplace_predict(data.validation)
    assert seen[0][2] == metric_value("roc_auc", data.validation_labels, own, "binary")
    assert whole.value > seen[0][2]

    # the value is what these parameters give, and those the space does not name are kept
    best = fit_booster(project, data, whole.parameters).inplace_predict(data.validation)
    assert whole.value == metric_value("roc_auc", data.validation_labels, best, "binary")
    assert set(whole.parameters) == set(SPACE)

    # killed in the middle
    folder = tmp_path / "killed"
    arguments = [
        str(project.folder / "project.yaml"),
        split.train.model_dump_json(),
        split.validation.model_dump_json(),
        str(folder),
        ray.get_runtime_context().gcs_address,
    ]
    child = subprocess.Popen([sys.executable, "-c", CHILD, *arguments], stdout=subprocess.PIPE)
    with child:
        while (line := child.stdout.readline()) != b"6\n":
            assert line, "the child ended before it could be killed"
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    kept = journal(folder)
    assert 6 <= len(kept) < 16
    with (folder / "journal.log").open("a") as file:
        file.write('{"op_code":4,"worker_id":"cut o')  # as if killed inside a write

    # resumed: the finished trials stay, the others are made, the end is the same
    told: list[int] = []
    resumed = tune(
        project, split.train, split.validation, folder, lambda done, *_: told.append(done)
    )
    assert resumed == whole
    assert told == list(range(1, 17))
    assert journal(folder)[: len(kept)] == kept
    assert len(journal(folder)) == 16
    values = [(entry["values"], entry["user_attrs"]) for entry in journal(tmp_path / "whole")]
    both = [(entry["values"], entry["user_attrs"]) for entry in journal(folder)]
    assert sorted(map(repr, values)) == sorted(map(repr, both))

    # done: nothing is run again, so not even the data are needed
    shutil.rmtree(split.train.uri)
    assert tune(project, split.train, split.validation, folder, quiet) == whole


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_trial_xgboost_refuses_is_told_with_its_parameters(make_project, prepare, tmp_path):
    """Each value alone is good; together with a category in the data they are not."""
    training = TRAINING | {"parameters": {"tree_method": "exact"}}
    project = make_project(tuning=TUNING, training=training)
    split = prepare(project)
    with pytest.raises(TrainingError, match=r"XGBoost refuses {'tree_method': 'exact'} \("):
        tune(project, split.train, split.validation, tmp_path / "study", quiet)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_worker_that_dies_is_told(make_project, prepare, tmp_path):
    project = make_project(tuning=TUNING, training=TRAINING, features="features:build")
    (tmp_path / "features.py").write_text("import os\n\ndef build(inputs):\n    os._exit(1)\n")
    split = prepare(project)
    with pytest.raises(TrainingError, match=r"tuning: a worker died on .* run again, finished"):
        tune(project, split.train, split.validation, tmp_path / "study", quiet)


def test_without_a_space_the_projects_parameters_stand(make_project, prepare, tmp_path):
    project = make_project(training=TRAINING)
    split = prepare(project)
    tuned = tune(project, split.train, split.validation, tmp_path / "study", quiet)
    assert (tuned.parameters, tuned.value, tuned.trials) == (TRAINING["parameters"], None, 0)
    assert not (tmp_path / "study").exists()


def test_unusable_space_is_refused_before_anything_runs(make_project, prepare, tmp_path):
    space = {"subsample": {"type": "float", "low": 0.5, "high": 2}}
    project = make_project(tuning={"space": space})
    split = prepare(project)
    with pytest.raises(ProjectError, match=r"tuning\.space\.subsample"):
        tune(project, split.train, split.validation, tmp_path / "study", quiet)
