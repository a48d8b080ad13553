"""One data set with all four kinds of target, missing values and a category."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from lifecycle.project import Project
from lifecycle.project.loader import load_project

COLUMNS: dict[str, Any] = {
    "id": {"type": "integer"},
    "age": {"type": "number", "nullable": True},
    "visits": {"type": "integer"},
    "noise": {"type": "number"},
    "city": {"type": "category", "nullable": True, "categories": ["Rome", "Oslo", "Lima"]},
    "bought": {"type": "integer"},
    "plan": {"type": "category", "categories": ["small", "middle", "large"]},
    "spent": {"type": "number"},
    "calls": {"type": "integer"},
}
TARGETS = {"binary": "bought", "multiclass": "plan", "regression": "spent", "count": "calls"}

PLUG = '''
import numpy as np
import xgboost
from onnx import TensorProto, helper, numpy_helper

from lifecycle.errors import ProjectError
from lifecycle.training.trainers.onnx import OnnxModel
from lifecycle.training.trainers.protocol import Fitted
from lifecycle.training.trainers.booster import XGBoostModel


class Stumps:
    """Trees of depth one, with XGBoost itself."""

    def check(self, project):
        for name in project.training.parameters:
            if name != "trees":
                raise ProjectError(f"training.parameters.{name}: there is only trees")

    def fit(self, project, data, parameters, threads, on_round=None):
        kinds = list(data.schema.kinds)
        rows = xgboost.DMatrix(
            data.train, data.train_labels, weight=data.train_weights,
            feature_types=kinds, enable_categorical=True, nthread=threads,
        )
        given = {"objective": "binary:logistic", "max_depth": 1, "nthread": threads}
        booster = xgboost.train(given, rows, num_boost_round=int(parameters.get("trees", 20)))
        return Fitted(XGBoostModel(booster), {})


class LeastSquares:
    """A straight plane, written as a graph by hand; what is missing counts as zero."""

    def fit(self, project, data, parameters, threads, on_round=None):
        rows = np.nan_to_num(data.train.astype("f8"))
        rows = np.column_stack([rows, np.ones(len(rows))])
        plane = np.linalg.lstsq(rows, data.train_labels, rcond=None)[0].astype("f4")
        columns = data.train.shape[1]
        constants = [
            numpy_helper.from_array(plane[:-1, None], "slopes"),
            numpy_helper.from_array(plane[-1:], "intercept"),
            numpy_helper.from_array(np.zeros(1, "f4"), "zero"),
        ]
        nodes = [
            helper.make_node("IsNaN", ["matrix"], ["missing"]),
            helper.make_node("Where", ["missing", "zero", "matrix"], ["filled"]),
            helper.make_node("MatMul", ["filled", "slopes"], ["sum"]),
            helper.make_node("Add", ["sum", "intercept"], ["value"]),
        ]
        graph = helper.make_graph(
            nodes, "plane",
            [helper.make_tensor_value_info("matrix", TensorProto.FLOAT, [None, columns])],
            [helper.make_tensor_value_info("value", TensorProto.FLOAT, [None, 1])],
            constants,
        )
        opset = [helper.make_opsetid("", 18)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=9)
        return Fitted(OnnxModel(model.SerializeToString()), {})
'''


def customers(rows: int = 600) -> pd.DataFrame:
    """Age, visits and city carry a signal; a tenth of ages and cities is missing."""
    draw = np.random.default_rng(5)
    age = draw.uniform(18, 80, rows)
    visits = draw.integers(0, 11, rows)
    city = draw.choice(["Rome", "Oslo", "Lima"], rows)
    score = age / 40 + visits / 5 + 1.5 * (city == "Rome") + draw.normal(0, 0.3, rows)
    third = np.quantile(score, [1 / 3, 2 / 3])
    return pd.DataFrame(
        {
            "id": np.arange(rows),
            "age": np.where(draw.random(rows) < 0.1, np.nan, age),
            "visits": visits,
            "noise": draw.normal(size=rows),
            "city": np.where(draw.random(rows) < 0.1, None, city),
            "bought": (score > np.median(score)).astype(int),
            "plan": np.array(["small", "middle", "large"])[np.searchsorted(third, score)],
            "spent": score * 100,
            "calls": draw.poisson(np.exp(score / 2)),
        }
    )


def _declare(folder: Path, task: str, **changes: Any) -> Project:
    """A project of this task on the customers, in `folder`, with `plug.py` beside it."""
    customers().to_csv(folder / "customers.csv", index=False)
    (folder / "plug.py").write_text(PLUG)
    target = TARGETS[task]
    declared = {
        "name": f"customers_{task}",
        "source": {"path": "customers.csv"},
        "task": task,
        "target": target,
        "inputs": ["age", "visits", "noise", "city"],
        "contract": {"columns": COLUMNS},
        "split": {"holdout": 0.25, "validation": 0.2},
    }
    (folder / "project.yaml").write_text(yaml.safe_dump(declared | changes))
    return load_project(folder / "project.yaml")


@pytest.fixture(scope="session")
def declare() -> Callable[..., Project]:
    """Folder, task and changes → project."""
    return _declare


@pytest.fixture
def declared(tmp_path: Path) -> Callable[..., Project]:
    """Task and changes → project, in the test's own folder."""
    return lambda task, **changes: _declare(tmp_path, task, **changes)
