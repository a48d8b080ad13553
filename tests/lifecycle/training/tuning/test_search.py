"""The search machinery on real Ray, with objectives that need no data."""

import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import ray

from lifecycle.errors import TrainingError
from lifecycle.project import Project
from lifecycle.records import Tuned
from lifecycle.training.tuning import Objective
from lifecycle.training.tuning.search import Now, search
from lifecycle.training.tuning.study import read_courses

SPACE = {
    "eta": {"type": "float", "low": 0.02, "high": 0.5, "log": True},
    "max_depth": {"type": "int", "low": 1, "high": 12},
}
ROUNDS = 20

pytestmark = pytest.mark.usefixtures("ray_cluster")
SYSTEM = pytest.mark.system


def curved(delay: float = 0.0) -> Objective:
    """Scores that rise to a level that the parameters decide; slow at random."""

    def objective(parameters, on_round):
        level = 1 - abs(parameters["eta"] - 0.1) - abs(parameters["max_depth"] - 5) / 20
        for at in range(ROUNDS):
            if on_round(at, level * (1 - 0.8 ** (at + 1))):
                return None
        time.sleep(delay * random.random())  # noqa: S311 - only a delay
        return level

    return objective


def sleeping(seconds: float) -> Objective:
    def objective(parameters, on_round):
        time.sleep(seconds)
        return parameters["eta"]

    return objective


@pytest.fixture
def searching(make_project: Callable[..., Project]) -> Callable[..., Project]:
    def make(**tuning: object) -> Project:
        training = {
            "rounds": ROUNDS,
            "parameters": {"eta": 0.4, "max_depth": 10},
            "metric": "roc_auc",  # the curves rise
        }
        return make_project(tuning={"space": SPACE} | tuning, training=training)

    return make


def without_times(tuned: Tuned) -> Tuned:
    history = tuple(trial.model_copy(update={"seconds": 0.0}) for trial in tuned.history)
    return tuned.model_copy(update={"history": history})


def quiet(now: Now) -> None:
    pass


def journal(folder: Path) -> list[dict]:
    lines = (folder / "journal.log").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if entry["op_code"] == 4]


@pytest.mark.parametrize(
    "pruner",
    ["median", pytest.param("halving", marks=SYSTEM), pytest.param("hyperband", marks=SYSTEM)],
)
def test_same_search_whatever_the_timing_and_the_actors(searching, tmp_path, pruner):
    """Three workers on two CPUs, then with one of the two taken, with other delays."""
    project = searching(trials=30, workers=3, pruner=pruner)
    first = search(project, curved(0.02), tmp_path / "first", quiet)
    holder = ray.remote(num_cpus=1)(Holder).remote()
    ray.get(holder.ready.remote())
    try:
        second = search(project, curved(0.1), tmp_path / "second", quiet)
    finally:
        ray.kill(holder)
    assert without_times(first) == without_times(second)

    assert (first.trials, len(first.history)) == (30, 30)
    pruned = [trial for trial in first.history if trial.state == "pruned"]
    assert 3 < len(pruned) == first.pruned < 27
    assert all(trial.value is None and trial.rounds < ROUNDS for trial in pruned)
    # trial 0 is the project's own, far from good, and yet whole
    own = first.history[0]
    assert (own.state, own.rounds, own.parameters) == (
        "complete",
        ROUNDS,
        {"eta": 0.4, "max_depth": 10},
    )
    # the best is the best of those that ended
    whole = [trial for trial in first.history if trial.value is not None]
    best = max(whole, key=lambda trial: trial.value)
    assert (first.value, first.parameters) == (best.value, best.parameters)

    # pruned ones are in the journal with their curve, for us and for Optuna's own tools
    courses = read_courses(tmp_path / "first")
    curves = {key: course.scores for key, course in courses.items()}
    assert sorted(map(len, curves.values())) == sorted(
        {json.dumps(t.parameters): t.rounds for t in first.history}.values()
    )
    states = [entry["state"] for entry in journal(tmp_path / "first")]
    assert set(states) == {1, 2}  # TrialState.COMPLETE, PRUNED


class Holder:
    def ready(self) -> bool:
        return True


def test_without_a_pruner_every_trial_is_whole(searching, tmp_path):
    project = searching(trials=12, workers=1, pruner="none")
    first = search(project, curved(), tmp_path / "first", quiet)
    again = search(project, curved(), tmp_path / "again", quiet)
    assert without_times(first) == without_times(again)
    assert (first.trials, first.pruned) == (12, 0)
    assert {trial.rounds for trial in first.history} == {ROUNDS}


def test_no_trial_starts_after_the_time(searching, tmp_path):
    project = searching(trials=200, workers=2, pruner="none", max_seconds=3.0)
    seen: list[Now] = []
    tuned = search(project, sleeping(0.2), tmp_path / "study", seen.append)
    assert 1 <= tuned.trials == len(tuned.history) == len(seen) < 40
    assert {now.total for now in seen} == {200}
    assert {now.resumed for now in seen} == {0}

    # run again: the time is over, and what was finished counts
    resumed: list[Now] = []
    again = search(project, sleeping(0.2), tmp_path / "study", resumed.append)
    assert again == tuned
    assert {now.resumed for now in resumed} == {tuned.trials}


def test_the_projects_own_parameters_are_always_tried(searching, tmp_path):
    project = searching(trials=5, workers=2, max_seconds=1e-9)
    tuned = search(project, sleeping(0.0), tmp_path / "study", quiet)
    assert [trial.number for trial in tuned.history] == [0]
    assert tuned.parameters == {"eta": 0.4, "max_depth": 10}


def test_a_finished_trial_counts_though_one_before_it_was_lost(searching, tmp_path):
    """Killed when trial 4 had ended and 3 had not, and the time is over when it goes on."""
    whole = searching(trials=6, workers=2)
    tuned = search(whole, sleeping(0.0), tmp_path / "study", quiet)
    file = tmp_path / "study" / "journal.log"
    kept = [
        line
        for line in file.read_text().splitlines(keepends=True)
        if json.loads(line).get("user_attrs", {}).get("number") not in (3, 5)
    ]
    file.write_text("".join(kept))
    late = searching(trials=6, workers=2, max_seconds=1e-9)
    resumed = search(late, sleeping(0.0), tmp_path / "study", quiet)
    assert resumed.history == tuple(t for t in tuned.history if t.number not in (3, 5))


def test_all_workers_are_used(searching, tmp_path):
    project = searching(trials=10, workers=2, pruner="none")
    told: list[float] = []
    search(project, sleeping(0.5), tmp_path / "study", lambda now: told.append(time.monotonic()))
    assert told[-1] - told[1] < 4 * 0.5 * 1.4  # 8 trials, two at a time


def test_a_trial_without_a_value_is_told(searching, tmp_path):
    def nothing(parameters, on_round):
        return float("nan")

    with pytest.raises(
        TrainingError, match=r"trial 0 with {'eta': 0.4, .*} has no value \(got nan"
    ):
        search(searching(), nothing, tmp_path / "study", quiet)
    assert journal(tmp_path / "study") == []
