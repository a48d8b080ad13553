"""From a real bundle to a whole evaluation, for every task, with every figure."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score

from lifecycle.errors import ProjectError
from lifecycle.project import METRICS
from lifecycle.training.evaluation import assess
from tests.support.small import SMALL, small_frame

RNG = np.random.default_rng(4)


def frame_of(task):
    """The small frame with a target of the task."""
    frame = small_frame(600)
    score = frame["age"] / 30 + (frame["city"] == "Rome") + RNG.normal(0, 0.3, 600)
    if task == "multiclass":
        levels = pd.cut(score, [-9, 1.2, 2, 9], labels=["none", "some", "many"])
        return frame.assign(bought=levels.astype(str)), {
            "type": "category",
            "categories": ["none", "some", "many"],
        }
    if task == "count":
        return frame.assign(bought=RNG.poisson(np.exp(score / 2))), {"type": "integer"}
    if task == "regression":
        return frame.assign(bought=score), {"type": "number"}
    return frame, {"type": "integer"}


@pytest.fixture
def make(make_project, train, settings):
    def made(task, **changes):
        frame, column = frame_of(task)
        columns = SMALL["contract"]["columns"] | {"bought": column}
        contract = SMALL["contract"] | {"columns": columns}
        evaluation = {"slices": ["visits"], "min_rows": 20, **changes.pop("evaluation", {})}
        project = make_project(
            frame,
            task=task,
            contract=contract,
            protected=["city"],
            inputs=["age", "visits", "city"],
            evaluation=evaluation,
            **changes,
        )
        model = train(project, settings)
        answers = assess.answer(
            project, model.split.holdout, model.bundle.path, model.bundle.digest
        )
        return model, answers

    return made


@pytest.mark.parametrize("task", METRICS)
def test_every_task_is_measured_sliced_and_drawn(make, task):
    model, answers = make(task)
    project, holdout = model.project, model.split.holdout
    plain = assess.assess(project, answers, holdout, "candidate")
    found = assess.assess_closely(project, answers, plain)
    assert tuple(found.metrics) == METRICS[task]
    base, gain = assess.assess_baseline(project, model.split, answers)
    worse, better = base.metrics[project.metric].value, found.metrics[project.metric].value
    assert gain.value == pytest.approx(abs(better - worse))
    assert (better > worse) == (task == "binary")  # roc_auc; the others' first metric is a loss
    assert {s.by for s in found.slices} == {"city", "visits"}
    assert all(s.estimate for s in found.slices if s.by == "city")
    assert {g.attribute for g in found.gaps} == {"city"}
    assert (found.calibration_error is None) == (task in ("regression", "count"))
    assert assess.score(project, answers) == better
    figures = assess.draw(project, answers, found, model.bundle)
    expected = {"calibration", "importances", "slices", "learning_curve", "shap"}
    first = {
        "binary": {"roc", "precision_recall", "confusion"},
        "multiclass": {"roc", "confusion"},
    }.get(task, {"residuals"})
    assert set(figures) == expected | first


def test_classes_are_made_by_the_models_own_threshold(make):
    """In accuracy, gain, gaps and the page's numbers; the champion has its own."""
    costs = {"false_positive": 1, "false_negative": 4}
    model, answers = make("binary", gate={"metric": "accuracy"}, decision={"costs": costs})
    schema = answers.loaded.schema.model_copy(update={"threshold": 0.2})
    answers = answers._replace(loaded=replace(answers.loaded, schema=schema))
    project, holdout = model.project, model.split.holdout
    found = assess.assess_closely(
        project, answers, assess.assess(project, answers, holdout, "candidate")
    )
    truth, chosen = answers.truth, answers.prediction >= 0.2
    right = (chosen == truth).mean()
    assert right != ((answers.prediction >= 0.5) == truth).mean()
    assert found.threshold == 0.2
    assert found.metrics["accuracy"].value == assess.score(project, answers) == right
    measured = {name: estimate.value for name, estimate in found.at_threshold.items()}
    assert measured["precision"] == pytest.approx(precision_score(truth, chosen))
    assert measured["recall"] == pytest.approx(recall_score(truth, chosen))
    assert measured["f1"] == pytest.approx(f1_score(truth, chosen))
    wrong = (chosen & (truth == 0)).sum() + 4 * (~chosen & (truth == 1)).sum()
    assert measured["cost per row"] == pytest.approx(wrong / len(truth))
    selected = pd.Series(chosen).groupby(answers.frame["city"].to_numpy()).mean()
    parity = next(g for g in found.gaps if g.measure == "demographic parity difference")
    assert parity.value == pytest.approx(selected.max() - selected.min())
    same = assess.Predicted(truth, answers.prediction, answers.entity, threshold=0.5)
    gain = assess.gain(project, answers, same, 0.9)
    assert gain.value == pytest.approx(right - ((answers.prediction >= 0.5) == truth).mean())
    figures = assess.draw(project, answers, found, model.bundle)
    written = {text.get_text() for text in figures["confusion"].axes[0].texts}
    assert any(text.endswith(f"\n{(chosen & (truth == 1)).sum():,}") for text in written)
    marked = figures["precision_recall"].axes[0].lines[-1].get_xydata()[0]
    assert marked == pytest.approx([measured["recall"], measured["precision"]])


def test_gain_over_the_same_answers_is_zero(make):
    model, answers = make("multiclass")
    same = assess.Predicted(answers.truth, answers.prediction, answers.entity)
    gain = assess.gain(model.project, answers, same, 0.9)
    assert (gain.low, gain.value, gain.high) == (0, 0, 0)


def test_an_own_metric_decides(make, tmp_path):
    code = "def hits(truth, prediction):\n    return ((prediction > 0.5) == truth).mean()\n"
    (tmp_path / "mine.py").write_text(code)
    model, answers = make(
        "binary",
        metrics={"hits": "mine:hits"},
        gate={"metric": "hits"},
        training={"metric": "hits"},
    )
    project = model.project
    found = assess.assess_closely(
        project, answers, assess.assess(project, answers, model.split.holdout, "candidate")
    )
    assert found.metrics["hits"].value == found.metrics["accuracy"].value
    assert "hits difference" in {gap.measure for gap in found.gaps}
    assert assess.score(project, answers) == found.metrics["hits"].value
    figure = assess.draw(project, answers, found, model.bundle)["learning_curve"]
    assert figure.axes[0].get_ylabel() == "hits"


def test_the_learning_curve_is_of_what_stopped_training(make):
    model, answers = make("binary", gate={"metric": "accuracy"})
    found = assess.assess(model.project, answers, model.split.holdout, "candidate")
    found = assess.assess_closely(model.project, answers, found)
    figure = assess.draw(model.project, answers, found, model.bundle)["learning_curve"]
    assert figure.axes[0].get_ylabel() == "logloss"


def test_a_wrong_segment_is_told(make):
    model, answers = make("binary", evaluation={"segments": {"odd": "heigth > 3"}})
    plain = assess.assess(model.project, answers, model.split.holdout, "candidate")
    with pytest.raises(ProjectError, match=r"evaluation\.segments\.odd"):
        assess.assess_closely(model.project, answers, plain)
