"""A search without Ray: the trials run in this process, one after another."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from lifecycle.errors import TrainingError
from lifecycle.project import Project
from lifecycle.records import Split
from lifecycle.settings import Settings
from lifecycle.training.tuning import Pruning, ReportedTrial, TrialOutcome
from lifecycle.training.tuning.search import Now, search
from lifecycle.training.tuning.trials import LocalPool, ValidationMetric
from tasks.cluster import ray_for_training

SPACE = {"eta": {"type": "float", "low": 0.02, "high": 0.5}}


@pytest.fixture(autouse=True)
def _without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests of this process may have connected it."""
    monkeypatch.setattr("lifecycle.training.tuning.search.is_connected", lambda: False)


def test_a_failed_trial_ends_the_search_and_finished_ones_are_kept(
    make_project: Callable[..., Project], tmp_path: Path
) -> None:
    project = make_project(tuning={"trials": 6, "workers": 2, "space": SPACE})
    seen: list[Now] = []
    fails = [True]

    def objective(parameters: Mapping[str, float], on_round: object) -> float:
        if len(seen) >= 2 and fails[0]:
            raise TrainingError("no memory")
        return float(parameters.get("eta", 1.0))

    with pytest.raises(TrainingError, match=r"trial \d with .*no memory; narrow tuning.space"):
        search(project, objective, tmp_path / "study", seen.append)
    first = [now.trial for now in seen]
    fails[0] = False
    tuned = search(project, objective, tmp_path / "study", seen.append)
    assert tuned.trials == 6
    assert list(tuned.history[: len(first)]) == first  # their seconds too: they did not run again
    assert seen[-1].resumed >= 2


@pytest.mark.parametrize("trainer", ["xgboost", "sklearn:ensemble.RandomForestClassifier"])
def test_a_trial_leaves_shared_data_as_they_are(
    trainer: str, make_project: Callable[..., Project], prepare: Callable[..., Split]
) -> None:
    """Ray's object store hands out arrays that nobody may write to."""
    parameters = {"eta": 0.1} if trainer == "xgboost" else {"n_estimators": 5}
    project = make_project(training={"trainer": trainer, "parameters": parameters, "rounds": 5})
    split = prepare(project)
    objective = ValidationMetric(project, split.train, split.validation)
    value = objective(parameters, lambda at, score: False)
    shared = objective.with_data()
    assert shared._data is not None
    for array in (shared._data.train, shared._data.train_labels, shared._data.validation):
        array.setflags(write=False)
    assert shared(parameters, lambda at, score: False) == value


def test_the_pruner_knows_what_was_told_when_the_trial_was_asked() -> None:
    judged: list[list[int]] = []

    def objective(
        parameters: Mapping[str, object], on_round: Callable[[int, float], bool]
    ) -> float:
        judge = pool._worker.judge()
        assert judge
        judged.append([trial.number for trial in judge._trials.finished])
        return 1.0

    pool = LocalPool(objective, Pruning("median", 10, maximize=False))
    for number in (0, 1):
        pool.start(number, {})
    for number in (0, 1):
        assert pool.result()[0] == number
    pool.tell(ReportedTrial(0, TrialOutcome(1.0, (1.0,), {}, 0.0)))
    pool.start(2, {})
    pool.tell(ReportedTrial(1, TrialOutcome(1.0, (1.0,), {}, 0.0)))  # after trial 2 was asked for
    pool.result()
    assert judged == [[], [], [0]]


@pytest.mark.parametrize(
    ("changes", "rows", "starts"),
    [
        ({}, 1_000_000, False),
        ({"tuning": {"space": SPACE, "trials": 5}}, 1_000, False),
        ({"tuning": {"space": SPACE, "trials": 5}}, 1_000_000, True),
        ({"training": {"num_workers": 2}}, 1_000, True),
    ],
)
def test_where_ray_starts(
    make_project: Callable[..., Project],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, object],
    rows: int,
    starts: bool,
) -> None:
    started = []

    @contextmanager
    def ray_cluster(settings: Settings) -> Iterator[None]:
        started.append(settings)
        yield

    monkeypatch.setattr("tasks.cluster.ray_cluster", ray_cluster)
    with ray_for_training(make_project(**changes), settings, rows):
        assert bool(started) == starts
