"""Training: equal identities make equal models wherever they are fitted; failures speak plainly."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from lifecycle.errors import FeatureError, TargetError, TrainingError
from lifecycle.lake.read import read_version
from lifecycle.lake.write import write_version
from lifecycle.records import Tuned
from lifecycle.runtime.identity import identity_of
from lifecycle.runtime.plugins import plugs_digest
from lifecycle.training.bundle import load_bundle
from lifecycle.training.fit import cpus_to_claim, fit, train_model
from lifecycle.training.matrix import open_matrices
from lifecycle.training.predictor import open_predictor

OWN = Tuned(parameters={"max_depth": 3}, value=None, trials=0)


@pytest.fixture
def elsewhere(settings):
    """Settings as of a joined cluster: training is then a task, where `local` is this process."""
    return settings.model_copy(update={"home": settings.home / "second", "ray_address": "joined"})


@pytest.mark.component
@pytest.mark.usefixtures("ray_cluster")
def test_same_identity_same_digest(make_project, prepare, settings, elsewhere):
    """In this process and in a task, from the references alone; the holdout is not there at all."""
    project = make_project()
    split = prepare(project)
    split = split.model_copy(
        update={"holdout": split.holdout.model_copy(update={"uri": "/nowhere", "version": 99})}
    )
    identity = identity_of(project, split, plugs_digest(project), threads=2)
    first = fit(project, split, OWN, settings, identity)
    second = fit(project, split, OWN, elsewhere, identity)
    assert first.digest == second.digest
    assert first.path != second.path
    assert first.curve == second.curve
    loaded = load_bundle(first.path, first.digest)
    assert loaded.manifest.identity == identity.digest
    frame = read_version(split.validation)
    answers = open_predictor(loaded, project).predict(frame)
    assert roc_auc_score(frame["bought"], answers) > 0.8


@pytest.mark.component
@pytest.mark.usefixtures("ray_cluster")
def test_a_failing_hook_in_a_task_is_told_as_itself(make_project, prepare, elsewhere, tmp_path):
    (tmp_path / "features.py").write_text("def build(inputs):\n    return inputs['wrong']\n")
    project = make_project(features="features:build")
    split = prepare(project)
    with pytest.raises(FeatureError, match=r"features\.py:2: KeyError"):
        train_model(project, split.train, split.validation, {}, elsewhere)


@pytest.mark.component
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"num_workers": 300}, "300 workers for .* rows; ask for fewer"),
        ({"num_workers": 20}, r"20 workers with 1 threads each, and Ray's nodes have 2 CPUs"),
        ({"num_workers": 2, "threads": 2}, "2 workers with 2 threads each.*training.threads"),
    ],
)
def test_workers_that_would_wait_for_ever(make_project, prepare, settings, training, message):
    project = make_project(training=training)
    split = prepare(project)
    with pytest.raises(TrainingError, match=message):
        train_model(project, split.train, split.validation, {}, settings)


@pytest.mark.component
@pytest.mark.usefixtures("ray_cluster")
def test_a_fit_starts_beside_a_replica(make_project, prepare, elsewhere):
    """It waited for ever for both CPUs of a node whose replica holds half a one."""
    import ray

    @ray.remote(num_cpus=0.5)
    class Replica:
        def ready(self) -> bool:
            return True

    replica = Replica.remote()
    assert ray.get(replica.ready.remote())
    project = make_project(training={"threads": 2})
    split = prepare(project)
    assert train_model(project, split.train, split.validation, {}, elsewhere).model.rounds > 0
    ray.kill(replica)


@pytest.mark.parametrize(
    ("free", "workers", "threads", "cpus"),
    [
        ([0.0, 2.0], 1, 2, 2),
        ([0.0, 1.5], 1, 2, 1),
        ([8.0, 3.5], 1, 4, 4),
        ([8.0, 3.5], 3, 4, 3),
        ([2.0, 2.0], 2, 1, 1),
        ([], 1, 2, 1),
    ],
)
def test_cpus_that_are_free_are_claimed(monkeypatch, free, workers, threads, cpus):
    monkeypatch.setattr("lifecycle.training.fit.free_cpus", lambda: free)
    assert cpus_to_claim(workers, threads) == cpus


def test_where_no_cpu_is_free_it_says_what_it_waits_for(monkeypatch, caplog):
    monkeypatch.setattr("lifecycle.training.fit.free_cpus", lambda: [0.5, 1.0])
    assert cpus_to_claim(2, 4) == 1
    assert "waiting for a free CPU of Ray per worker (2 of them, free are 0.5 + 1)" in caplog.text


def test_one_worker_on_a_local_ray_needs_no_ray(make_project, prepare, settings, monkeypatch):
    monkeypatch.setattr("ray.remote", None)
    monkeypatch.setattr("ray.nodes", None)
    project = make_project()
    split = prepare(project)
    assert train_model(project, split.train, split.validation, {}, settings).model.rounds > 0


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_do_not_change_this_model(make_project, prepare, settings, threads):
    split = prepare(make_project())
    models = {
        many: train_model(
            make_project(training={"threads": many}), split.train, split.validation, {}, settings
        ).model.save()
        for many in (1, threads)
    }
    assert models[1] == models[threads]


def test_early_stopping_cuts_the_rounds_after_the_best(make_project, prepare, settings):
    project = make_project(training={"rounds": 400, "early_stopping_rounds": 5, "refit": False})
    split = prepare(project)
    trained = train_model(project, split.train, split.validation, {"eta": 0.3}, settings)
    scores = trained.curve["validation"]
    assert trained.model.rounds == int(np.argmin(scores)) + 1 == len(scores) - 5 < 400
    data = open_matrices(project, split.train, split.validation)
    answers = trained.model.predict(data.validation)
    assert log_loss(data.validation_labels, answers) == pytest.approx(min(scores), abs=1e-5)


@pytest.mark.parametrize("metric", ["rmse", "mae", "r2"])
def test_regression(make_project, prepare, settings, metric):
    project = make_project(task="regression", target="visits", training={"metric": metric})
    split = prepare(project)
    model = train_model(project, split.train, split.validation, {}, settings).model
    data = open_matrices(project, split.train, split.validation)
    assert np.isfinite(model.predict(data.validation)).all()
    assert data.train_labels.max() > 1


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision", "brier", "accuracy"])
def test_every_binary_metric_can_stop_training(make_project, prepare, settings, metric):
    project = make_project(training={"metric": metric})
    split = prepare(project)
    trained = train_model(project, split.train, split.validation, {}, settings)
    assert 1 <= trained.model.rounds <= len(trained.curve["validation"])


def test_rows_without_a_target_are_left_out(make_project, prepare, tmp_path):
    project = make_project()
    split = prepare(project)
    frame = read_version(split.train).astype({"bought": "Int64"})
    some = frame.assign(bought=frame["bought"].where(frame.index % 5 > 0))
    part = write_version(some, str(tmp_path / "some"), note={})
    data = open_matrices(project, part, split.validation)
    assert len(data.train) == len(data.train_labels) == some["bought"].notna().sum() < part.rows
    nothing = pd.array([None] * len(frame), dtype="Int64")
    none = write_version(frame.assign(bought=nothing), part.uri, note={})
    with pytest.raises(TargetError, match="bought: no row of the train part has a value"):
        open_matrices(project, none, split.validation)
