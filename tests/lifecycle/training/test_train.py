"""Training on Ray: equal identities make equal models, and failures speak plainly."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from lifecycle.data.features import hook_digest
from lifecycle.data.lake import read_version, write_version
from lifecycle.errors import FeatureError, TargetError, TrainingError
from lifecycle.identity import identity_of
from lifecycle.records import Tuned
from lifecycle.training.bundle import load_bundle
from lifecycle.training.evaluate import metric_value
from lifecycle.training.fit import fit
from lifecycle.training.matrix import open_matrices
from lifecycle.training.predictor import open_predictor
from lifecycle.training.train import fit_booster, train_booster

OWN = Tuned(parameters={"max_depth": 3}, value=None, trials=0)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_same_identity_same_digest(make_project, prepare, settings):
    """Trained twice on Ray, from the references alone; the holdout is not there at all."""
    project = make_project()
    split = prepare(project)
    split = split.model_copy(
        update={"holdout": split.holdout.model_copy(update={"uri": "/nowhere", "version": 99})}
    )
    identity = identity_of(project, split, hook_digest(project))
    first = fit(project, split, OWN, settings, identity)
    # an address of its own makes it a worker process, where `local` trains in this one
    there = {"home": settings.home / "second", "ray_address": "joined"}
    elsewhere = settings.model_copy(update=there)
    second = fit(project, split, OWN, elsewhere, identity)
    assert first.digest == second.digest
    assert first.path != second.path
    loaded = load_bundle(first.path, first.digest)
    assert loaded.manifest.identity == identity.digest
    frame = read_version(split.validation)
    answers = open_predictor(loaded, project).predict(frame)
    assert roc_auc_score(frame["bought"], answers) > 0.8
    assert not list((settings.home / "ray").iterdir())
    # Ray Train adds nothing of its own: one worker's model is that of this process
    data = open_matrices(project, split.train, split.validation)
    alone = fit_booster(project, data, OWN.parameters)
    assert alone.save_raw("ubj") == loaded.booster.save_raw("ubj")


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_two_workers_share_the_rows(make_project, prepare, settings):
    project = make_project(training={"rounds": 20, "num_workers": 2})
    split = prepare(project)
    trained = train_booster(project, split.train, split.validation, OWN.parameters, settings)
    data = open_matrices(project, split.train, split.validation)
    half = fit_booster(project, data, OWN.parameters, rank=0, of=2)
    answers = trained.booster.inplace_predict(data.train)
    # both halves were learned from: half the rows alone do worse on the whole
    assert metric_value("log_loss", data.train_labels, answers, "binary") < metric_value(
        "log_loss", data.train_labels, half.inplace_predict(data.train), "binary"
    )
    assert trained.features.model_dump() == data.schema.model_dump()


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_failing_hook_on_a_worker_is_told_as_itself(make_project, prepare, settings, tmp_path):
    (tmp_path / "features.py").write_text("def build(inputs):\n    return inputs['wrong']\n")
    project = make_project(features="features:build")
    split = prepare(project)
    with pytest.raises(FeatureError, match=r"features\.py:2: KeyError"):
        train_booster(project, split.train, split.validation, {}, settings)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"num_workers": 50}, "50 workers with 1 threads each, and Ray has 2 CPUs"),
        ({"num_workers": 900}, "900 workers for"),
    ],
)
def test_impossible_workers_are_refused_at_once(make_project, prepare, settings, training, message):
    project = make_project(training=training)
    split = prepare(project)
    with pytest.raises(TrainingError, match=message):
        train_booster(project, split.train, split.validation, {}, settings)


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_do_not_change_this_model(make_project, prepare, threads):
    project = make_project()
    split = prepare(project)
    data = open_matrices(project, split.train, split.validation)
    one = fit_booster(project, data, {})
    assert fit_booster(project, data, {"nthread": threads}).save_raw("ubj") == one.save_raw("ubj")


def test_early_stopping_cuts_the_rounds_after_the_best(make_project, prepare):
    project = make_project(training={"rounds": 400, "early_stopping_rounds": 5})
    split = prepare(project)
    data = open_matrices(project, split.train, split.validation)
    booster = fit_booster(project, data, {"eta": 0.3})
    rounds = booster.num_boosted_rounds()
    assert rounds < 400
    assert booster.best_iteration == rounds - 1
    scores = [
        metric_value(
            "roc_auc",
            data.validation_labels,
            booster[:end].inplace_predict(data.validation),
            "binary",
        )
        for end in range(1, rounds + 1)
    ]
    assert scores[-1] == pytest.approx(max(scores))


@pytest.mark.parametrize("metric", ["rmse", "mae", "r2"])
def test_regression(make_project, prepare, metric):
    project = make_project(task="regression", target="visits", gate={"metric": metric})
    split = prepare(project)
    data = open_matrices(project, split.train, split.validation)
    booster = fit_booster(project, data, {})
    assert np.isfinite(booster.inplace_predict(data.validation)).all()
    assert data.train_labels.max() > 1


@pytest.mark.parametrize("metric", ["average_precision", "log_loss", "brier", "accuracy"])
def test_every_binary_metric_can_stop_training(make_project, prepare, metric):
    project = make_project(gate={"metric": metric, "gain_over_baseline": -1.0})
    split = prepare(project)
    data = open_matrices(project, split.train, split.validation)
    assert fit_booster(project, data, {}).num_boosted_rounds() >= 1


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
