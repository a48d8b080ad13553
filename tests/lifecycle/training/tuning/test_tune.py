"""The search is repeatable, survives a SIGKILL, never reads the holdout and never ends worse."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import ray

from lifecycle.errors import ProjectError, TrainingError
from lifecycle.lake.read import read_version
from lifecycle.training.evaluation.evaluate import metric_value
from lifecycle.training.matrix import open_matrices
from lifecycle.training.trainers.registry import open_trainer
from lifecycle.training.tuning.search import tune
from tests.support.small import SMALL, small_frame

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
from lifecycle.runtime.cluster import connect_ray
from lifecycle.project.loader import load_project
from lifecycle.records import DatasetVersion
from lifecycle.settings import Settings
from lifecycle.training.tuning.search import tune

project, train, validation, folder, address = sys.argv[1:]

def on_trial(now):
    print(now.number, flush=True)
    if now.number == 6:
        time.sleep(600)  # until the SIGKILL, with trials 7 and 8 on the workers

with connect_ray(Settings(ray_address=address)):
    parts = [DatasetVersion.model_validate_json(part) for part in (train, validation)]
    tune(load_project(project), *parts, Path(folder), on_trial)
"""


def quiet(now):
    pass


def without_times(tuned):
    history = tuple(trial.model_copy(update={"seconds": 0.0}) for trial in tuned.history)
    return tuned.model_copy(update={"history": history})


def value_of(project, split, parameters):
    """The metric on the validation part of what these parameters give, fitted in this process."""
    data = open_matrices(project, split.train, split.validation)
    model = open_trainer(project).fit(project, data, parameters, threads=1).model
    return metric_value(
        "log_loss", data.validation_labels, model.predict(data.validation), "binary"
    )


def journal(folder: Path) -> list[dict]:
    """The trials on disk, in the order they were kept."""
    lines = (folder / "journal.log").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if entry["op_code"] == 4]


@pytest.fixture
def tunable(make_project, prepare):
    project = make_project(tuning=TUNING, training=TRAINING)
    return project, prepare(project)


@pytest.mark.system
@pytest.mark.usefixtures("ray_cluster")
def test_the_data_are_opened_once_for_all_workers(tunable, tmp_path, monkeypatch):
    project, split = tunable
    opened = []

    def open_once(*arguments):
        opened.append(open_matrices(*arguments))
        for part in (split.train, split.validation):  # a worker that opened it would fail
            shutil.rmtree(part.uri, ignore_errors=True)
        return opened[-1]

    monkeypatch.setattr("lifecycle.training.matrix.open_matrices", open_once)
    tuned = tune(project, split.train, split.validation, tmp_path / "study", quiet)
    assert len(opened) == 1
    assert tuned.trials == 16


@pytest.mark.system
@pytest.mark.usefixtures("ray_cluster")
def test_killed_and_resumed_equals_uninterrupted(tunable, tmp_path):
    """One story, since each start of workers costs seconds: whole, killed, resumed, done."""
    project, split = tunable
    shutil.rmtree(split.holdout.uri)  # nothing below can read it
    seen = []
    whole = tune(project, split.train, split.validation, tmp_path / "whole", seen.append)
    assert [now.number for now in seen] == list(range(1, 17))
    assert [now.best for now in seen] == sorted((now.best for now in seen), reverse=True)
    assert (seen[-1].total, seen[-1].best, seen[-1].resumed) == (16, whole.value, 0)
    assert tuple(now.trial for now in seen) == whole.history
    assert (whole.trials, whole.pruned) == (16, sum(t.state == "pruned" for t in whole.history))
    assert whole.pruned > 0

    # the first trial is the project's own parameters: tuning does not end worse
    assert whole.history[0].parameters == TRAINING["parameters"]
    assert seen[0].best == value_of(project, split, TRAINING["parameters"])
    assert whole.value < seen[0].best

    # in one process the search is the same
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lifecycle.training.tuning.search.is_connected", lambda: False)
        here = tune(project, split.train, split.validation, tmp_path / "here", quiet)
    assert without_times(here) == without_times(whole)

    # the value is what these parameters give, and those the space does not name are kept
    assert whole.value == value_of(project, split, whole.parameters)
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
    again = []
    resumed = tune(project, split.train, split.validation, folder, again.append)
    assert without_times(resumed) == without_times(whole)
    assert [now.number for now in again] == list(range(1, 17))
    assert {now.resumed for now in again} == {len(kept)}
    assert journal(folder)[: len(kept)] == kept
    assert len(journal(folder)) == 16
    assert by_number(journal(folder)) == by_number(journal(tmp_path / "whole"))

    # done: nothing is run again, so not even the data are needed
    shutil.rmtree(split.train.uri)
    assert tune(project, split.train, split.validation, folder, quiet) == resumed


def by_number(entries):
    """What a journal says of each trial, without times: values, curves, what the pruner noted."""
    said = ("state", "values", "params", "intermediate_values", "system_attrs")
    return {e["user_attrs"]["number"]: [e.get(key) for key in said] for e in entries}


@pytest.mark.system
@pytest.mark.usefixtures("ray_cluster")
def test_another_holdout_changes_nothing(make_project, prepare, tmp_path):
    """The labels of all held-out customers turned round: tuning finds the same."""
    tuning = TUNING | {"trials": 4}
    project = make_project(tuning=tuning, training=TRAINING)
    first = prepare(project)
    held_out = read_version(first.holdout)["customer"].unique()
    frame = small_frame()
    frame.loc[frame["customer"].isin(held_out), "bought"] ^= 1
    second = prepare(make_project(frame, tuning=tuning, training=TRAINING))
    assert second.holdout.digest != first.holdout.digest
    for part in ("train", "validation"):
        rows = [read_version(getattr(split, part)) for split in (first, second)]
        pd.testing.assert_frame_equal(*rows)
    found = [
        tune(project, split.train, split.validation, tmp_path / name, quiet)
        for name, split in (("first", first), ("second", second))
    ]
    assert without_times(found[0]) == without_times(found[1])


@pytest.mark.parametrize("entity", ["customer", None])
def test_what_tuning_measures_on_respects_time_and_entities(make_project, prepare, entity):
    """No customer is on both sides, and no row is learned from that is newer than the holdout."""
    frame = small_frame().assign(year=[2000 + row // 40 for row in range(400)])
    columns = SMALL["contract"]["columns"] | {"year": {"type": "integer"}}
    project = make_project(
        frame,
        contract=SMALL["contract"] | {"columns": columns},
        entity=entity,
        ignore=[] if entity else ["customer"],
        time={"column": "year"},
    )
    split = prepare(project)
    train, validation, holdout = map(read_version, (split.train, split.validation, split.holdout))
    assert len(train)
    assert len(validation)
    assert train["year"].max() < holdout["year"].min()
    assert validation["year"].max() < holdout["year"].min()
    if entity:
        assert not set(train["customer"]) & set(validation["customer"])
        assert not set(validation["customer"]) & set(holdout["customer"])
    else:
        assert train["year"].max() < validation["year"].min()


@pytest.mark.component
@pytest.mark.usefixtures("ray_cluster")
def test_a_trial_xgboost_refuses_is_told_with_its_parameters(make_project, prepare, tmp_path):
    """Each value alone is good; together with a category in the data they are not."""
    training = TRAINING | {"parameters": {"tree_method": "exact"}}
    project = make_project(tuning=TUNING, training=training)
    split = prepare(project)
    with pytest.raises(
        TrainingError, match=r"trial 0 with {'tree_method': 'exact'}: XGBoost .* narrow"
    ):
        tune(project, split.train, split.validation, tmp_path / "study", quiet)


@pytest.mark.system
@pytest.mark.usefixtures("ray_cluster")
def test_a_worker_that_dies_is_told(make_project, prepare, tmp_path):
    (tmp_path / "dying.py").write_text(
        "import os\n\nfrom lifecycle.training.trainers.xgb import XGBoostTrainer\n\n"
        "class Dying(XGBoostTrainer):\n    def fit(self, *arguments):\n        os._exit(1)\n"
    )
    project = make_project(tuning=TUNING, training=TRAINING | {"trainer": "dying:Dying"})
    split = prepare(project)
    with pytest.raises(
        TrainingError, match=r"tuning: a worker died on trial 0 .* run again, finished"
    ):
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


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("lifecycle.training.tuning.pool", ["optuna", "xgboost", "pandas", "pydantic", "sklearn"]),
        ("lifecycle.training.tuning.trials", ["optuna", "xgboost", "pandas", "pydantic", "ray"]),
        ("lifecycle.training.tuning.search", ["ray"]),
    ],
)
def test_an_actor_imports_no_more_than_it_needs(module, heavy):
    """What an actor imports is what each search waits for."""
    never = [*heavy, "mlflow", "matplotlib", "deepchecks", "prefect", "sklearn.ensemble"]
    code = f"import sys, {module}; print([n for n in {never} if n in sys.modules])"
    if module.endswith("pool"):  # Ray has these in every worker's process already
        code = f"import ray, sys; there = set(sys.modules); import {module}; " + (
            f"print([n for n in {never} if n in set(sys.modules) - there])"
        )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
