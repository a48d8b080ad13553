"""Boosting goes on from a checkpoint as if it had never stopped."""

import json

import pytest
import xgboost

from lifecycle.training.matrix import open_matrices
from lifecycle.training.trainers.xgb import Checkpoints, Progress, boost, parts_of

RANDOM = {"subsample": 0.6, "colsample_bynode": 0.5, "max_depth": 3, "eta": 0.4}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"training": {"metric": "roc_auc"}},
        {"task": "regression", "target": "visits", "training": {"metric": "mae"}},
        {"task": "count", "target": "visits", "training": {"metric": "rmse"}},
    ],
)
@pytest.mark.parametrize("rounds_before", [3, 9])
def test_the_model_is_that_of_an_uninterrupted_training(
    make_project, prepare, changes, rounds_before
):
    """Even with random rows and columns; the checkpoint is what a disk keeps, and no more."""
    training = {"rounds": 40, "early_stopping_rounds": 6} | changes.get("training", {})
    project = make_project(**changes | {"training": training})
    split = prepare(project)
    data = open_matrices(project, split.train, split.validation)
    kept: list[tuple[bytes, str]] = []

    def keep(progress: Progress) -> None:
        kept.append((bytes(progress.booster.save_raw("ubj")), json.dumps(progress.curve)))

    whole = boost(project, parts_of(project, data, 1), RANDOM, 1, checkpoints=Checkpoints(keep, 3))
    rounds = len(whole.curve["validation"])
    assert len(kept) == rounds // 3 >= rounds_before // 3
    model, curve = kept[rounds_before // 3 - 1]
    start = Progress(xgboost.Booster(model_file=bytearray(model)), json.loads(curve))
    seen: list[int] = []
    resumed = boost(
        project,
        parts_of(project, data, 1),
        RANDOM,
        1,
        on_round=lambda at, _: bool(seen.append(at)),
        checkpoints=Checkpoints(lambda _: None, 3, start),
    )
    assert seen == list(range(rounds_before, rounds))
    assert resumed.curve == whole.curve
    assert resumed.booster.save_raw("ubj") == whole.booster.save_raw("ubj")


def test_a_checkpoint_after_the_last_round_trains_no_more(make_project, prepare):
    project = make_project(training={"rounds": 5, "early_stopping_rounds": 5})
    split = prepare(project)
    data = open_matrices(project, split.train, split.validation)
    kept: list[Progress] = []
    whole = boost(project, parts_of(project, data, 1), {}, 1, checkpoints=Checkpoints(kept.append))
    again = boost(
        project, parts_of(project, data, 1), {}, 1, checkpoints=Checkpoints(start=kept[-1])
    )
    assert again.curve == whole.curve
    assert again.booster.save_raw("ubj") == whole.booster.save_raw("ubj")
