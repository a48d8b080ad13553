"""Several training workers on a real Ray cluster of several nodes, one of which is killed."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from lifecycle.errors import FeatureError, TrainingError
from lifecycle.lake.read import read_version
from lifecycle.lake.write import write_version
from lifecycle.settings import Settings
from lifecycle.training.bundle import load_bundle
from lifecycle.training.fit import train_model
from lifecycle.training.matrix import open_matrices
from lifecycle.training.shards import plan, read_shard
from tests.support.nodes import Nodes, driver, nodes
from tests.support.small import SMALL, small_frame

ROOT = Path(__file__).parents[3]
TRAINING = {"rounds": 20, "early_stopping_rounds": 10, "threads": 1, "num_workers": 2}
OWN = {"max_depth": 3}
METRIC = """
import time
from pathlib import Path
from sklearn.metrics import roc_auc_score

def score(truth, prediction):
    if "RayTrainWorker" in Path("/proc/self/cmdline").read_text():
        time.sleep(0.05)
        with Path(__file__).with_name("calls").open("a") as calls:
            calls.write(".")
    return roc_auc_score(truth, prediction)
"""
HOOK = """
from pathlib import Path

def build(inputs):
    if "RayTrainWorker" in Path("/proc/self/cmdline").read_text():
        return inputs["wrong"]
    return inputs
"""

pytestmark = [pytest.mark.system, pytest.mark.alone]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    with nodes(3) as running:
        yield running


@pytest.fixture(scope="module")
def on_cluster(cluster: Nodes) -> Iterator[Callable[..., Any]]:
    with driver(cluster) as call:
        yield call


@pytest.fixture
def joined(settings: Settings, cluster: Nodes) -> Settings:
    return settings.model_copy(update={"ray_address": cluster.address})


def test_two_workers_make_the_model_of_one(make_project, prepare, joined, on_cluster, tmp_path):
    """With categories nobody declared, class weights, and rows without a target."""
    contract = SMALL["contract"]
    columns = contract["columns"] | {
        "city": {"type": "category", "nullable": True},
        "bought": {"type": "integer", "nullable": True},
    }
    project = make_project(
        small_frame(3000),
        contract=contract | {"columns": columns},
        training=TRAINING | {"class_weight": "balanced", "rounds": 40},
    )
    split = prepare(project)
    frame = read_version(split.train).astype({"bought": "Int64"})
    frame["bought"] = frame["bought"].where(frame.index % 7 > 0)
    frame["city"] = frame["city"].mask(frame.index % 11 == 0)
    train = write_version(frame, str(tmp_path / "some"), note={})

    planned = on_cluster(plan, project, train, split.validation, 2)
    whole = open_matrices(project, train, split.validation)
    assert planned.schema == whole.schema
    assert sum(planned.train.rows) == len(whole.train) < train.rows
    assert sum(planned.validation.rows) == len(whole.validation) == split.validation.rows
    assert np.ptp(planned.train.rows) < 0.02 * len(whole.train)
    shards = [read_shard(project, train, planned.train, rank, planned.schema) for rank in range(2)]
    np.testing.assert_array_equal(np.concatenate([one.matrix for one in shards]), whole.train)
    np.testing.assert_array_equal(
        np.concatenate([one.labels for one in shards]), whole.train_labels
    )

    two = on_cluster(train_model, project, train, split.validation, OWN, joined)
    again = on_cluster(train_model, project, train, split.validation, OWN, joined)
    assert two.model.save() == again.model.save()
    assert two.features == whole.schema
    assert len(two.curve["train"]) == len(two.curve["validation"]) >= two.model.rounds
    assert not list((joined.home / "ray").iterdir())

    one_worker = project.training.model_copy(update={"num_workers": 1, "refit": False})
    single = project.model_copy(update={"training": one_worker})
    one = on_cluster(train_model, single, train, split.validation, OWN, joined)
    here = train_model(single, train, split.validation, OWN, Settings(home=joined.home))
    assert one.model.save() == here.model.save()
    answers = [trained.model.predict(whole.validation) for trained in (one, two)]
    assert np.abs(answers[0] - answers[1]).mean() < 0.02
    areas = [roc_auc_score(whole.validation_labels, each) for each in answers]
    assert areas[0] == pytest.approx(areas[1], abs=0.01)
    assert areas[1] > 0.85


def test_more_workers_than_the_nodes_have_room_for(make_project, prepare, joined, on_cluster):
    project = make_project(training=TRAINING | {"num_workers": 4})
    split = prepare(project)
    with pytest.raises(TrainingError, match=r"4 workers with 1 threads.* have 3 × 1 \+ 0 CPUs"):
        on_cluster(train_model, project, split.train, split.validation, OWN, joined)


def test_a_mistake_in_the_hook_is_told_as_itself(
    make_project, prepare, joined, on_cluster, tmp_path
):
    """Found by a worker only: it is not tried again."""
    (tmp_path / "features.py").write_text(HOOK)
    project = make_project(features="features:build", training=TRAINING)
    split = prepare(project)
    with pytest.raises(FeatureError, match=r"features\.py:6: KeyError: 'wrong'$"):
        on_cluster(train_model, project, split.train, split.validation, OWN, joined)


AUTH = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
OTHERS = ("PREFECT", "RAY")


def test_a_node_killed_in_the_middle(make_project, prepare, joined, on_cluster, cluster, tmp_path):
    """The flow run completes with the model of an undisturbed one, and loses few rounds."""
    (tmp_path / "metric.py").write_text(METRIC)
    calls = tmp_path / "calls"
    project = make_project(
        small_frame(1000),
        metrics={"area": "metric:score"},
        gate={"metric": "area", "gain_over_baseline": -1.0, "require_checks": False},
        checks={"suites": []},
        training=TRAINING
        | {"metric": "area", "rounds": 60, "early_stopping_rounds": 60, "checkpoint_rounds": 5},
    )
    split = prepare(project)
    undisturbed = on_cluster(train_model, project, split.train, split.validation, {}, joined)
    a_round = 4  # two workers measure two parts
    assert calls.stat().st_size == 60 * a_round
    calls.unlink()

    flow = subprocess.Popen(
        [sys.executable, "-m", "flows.train", "--project", str(project.file)],
        cwd=ROOT,
        # as the cluster, which has inherited whether Ray asks for a token
        env={k: v for k, v in os.environ.items() if k in AUTH or not k.startswith(OTHERS)}
        | {"LIFECYCLE_HOME": str(joined.home), "LIFECYCLE_RAY_ADDRESS": cluster.address},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not list((joined.home / "ray").glob("*/checkpoint_*/model.ubj")):
        assert flow.poll() is None, flow.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    victim = next(raylet for raylet, busy in cluster.workers().items() if _trains(busy))
    cluster.kill(victim)
    screen, _ = flow.communicate(timeout=200)
    assert flow.returncode == 0, screen
    assert "registered small v1" in screen
    bundles = list((joined.home / "bundles" / "small").iterdir())
    assert [load_bundle(path).model.save() for path in bundles] == [undisturbed.model.save()]
    # at most the rounds since the last checkpoint, and one that a worker had begun
    assert 60 * a_round < calls.stat().st_size <= (60 + 5 + 1) * a_round


def _trains(processes: list[Any]) -> bool:
    return any("RayTrainWorker" in process.cmdline()[0] for process in processes)
