"""Every scikit-learn example of the docs trains, and its graph answers as the estimator does."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from lifecycle.features.encode import FeatureSchema
from lifecycle.training.matrix import Matrices
from lifecycle.training.trainers.scikit import SklearnTrainer

DOCS = Path(__file__).parents[4] / "docs"
IN_PROSE: list[dict[str, Any]] = [
    {"trainer": "sklearn:ensemble.RandomForestClassifier"},
    {"trainer": "sklearn:linear_model.PoissonRegressor"},
    {
        "trainer": "sklearn:ensemble.HistGradientBoostingRegressor",
        "parameters": {"loss": "poisson"},
    },
    {"trainer": "sklearn:svm.SVC", "parameters": {"probability": True}},
]
REFUSED = ("LinearSVC",)
"""Named in the docs as what cannot be used."""
SCHEMA = FeatureSchema(
    names=("age", "visits", "noise", "city"),
    kinds=("q", "q", "q", "c"),
    levels={"city": ("Rome", "Oslo", "Lima")},
)


def in_blocks() -> list[dict[str, Any]]:
    """The `training` sections of YAML blocks that name an estimator of scikit-learn."""
    blocks = [
        yaml.safe_load(block)
        for page in sorted(DOCS.rglob("*.md"))
        for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
        if "sklearn:" in block
    ]
    return [block["training"] for block in blocks]


EXAMPLES = in_blocks() + IN_PROSE


def test_every_estimator_that_the_docs_name_is_an_example():
    pages = [page.read_text() for page in sorted((DOCS / "how-to").glob("*.md"))]
    named = {
        name for page in pages for name in re.findall(r"\b([A-Z]\w+(?:Classifier|Regressor))", page)
    }
    named |= {name for page in pages for name in re.findall(r"`svm\.(\w+)`", page)}
    assert "HistGradientBoostingClassifier" in named
    assert named - set(REFUSED) == {one["trainer"].rpartition(".")[2] for one in EXAMPLES}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("training", EXAMPLES, ids=lambda training: training["trainer"][8:])
def test_the_graph_is_the_estimator(declared, training, seed):
    """On numbers that 32 bits barely tell apart, where a rounded threshold or mean would show."""
    task = "binary" if training["trainer"].endswith(("Classifier", "SVC")) else "count"
    project = declared(task, training=training | {"seed": seed})
    trainer = SklearnTrainer()
    trainer.check(project)
    matrix, labels = _close_numbers(seed, task)
    data = Matrices(SCHEMA, matrix[:800], labels[:800], matrix[800:], labels[800:])
    fitted = trainer.fit(project, data, project.training.parameters, threads=1)
    assert np.ptp(fitted.model.predict(data.validation)) > 0.2


def _close_numbers(seed: int, task: str, rows: int = 1200) -> tuple[Any, Any]:
    draw = np.random.default_rng(seed)
    step, large, city = draw.integers(0, 30, rows), draw.integers(0, 40, rows), draw.choice(3, rows)
    score = step / 10 + large / 20 + (city == 1) + draw.normal(0, 0.3, rows)
    numbers = np.column_stack(
        [1 + step * 2.0**-23, 1.6e7 + large, draw.lognormal(10, 2, rows), city]
    ).astype(np.float32)
    numbers[draw.random(numbers.shape) < 0.05] = np.nan
    if task == "count":
        return numbers, draw.poisson(np.exp(score / 3)).astype(np.float64)
    return numbers, (score > np.median(score)).astype(np.float64)
