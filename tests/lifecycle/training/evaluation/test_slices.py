"""Slices, segments and fairness gaps on small frames whose answers are known by hand."""

import numpy as np
import pandas as pd
import pytest

from lifecycle.errors import ProjectError
from lifecycle.training.evaluation.evaluate import metric_value
from lifecycle.training.evaluation.fairness import fairness_gaps
from lifecycle.training.evaluation.slices import (
    MOST_VALUES,
    measure_slices,
    parts_of,
)
from tests.support.small import SMALL, small_frame

RNG = np.random.default_rng(2)


@pytest.fixture
def frame():
    return small_frame(400)


def measured(project, frame, truth=None, prediction=None, entity=None, own=None):
    parts = parts_of(frame, project)
    truth = frame["bought"].to_numpy(dtype=float) if truth is None else truth
    prediction = RNG.random(len(frame)) if prediction is None else prediction
    slices = measure_slices(parts, truth, prediction, entity, project, own or {})
    gaps = fairness_gaps(parts, truth, prediction, entity, project, own or {})
    return {(s.by, s.value): s for s in slices}, {(g.attribute, g.measure): g for g in gaps}


def test_categories_by_value_numbers_in_quartiles(make_project, frame):
    project = make_project(evaluation={"slices": ["city", "age"]})
    frame.loc[:99, "age"] = np.nan
    found, gaps = measured(project, frame)
    assert [value for by, value in found if by == "city"] == ["Lima", "Oslo", "Rome"]
    ages = [s for (by, _), s in found.items() if by == "age"]
    assert [s.value for s in ages[:1] + ages[-1:]] == ["up to 32.75", "missing"]
    assert len(ages) == 5
    assert sum(s.rows for s in ages) == len(frame)
    assert ages[-1].rows == 100
    assert not gaps  # nothing is protected


def test_a_slice_has_the_metric_of_its_rows(make_project, frame):
    project = make_project(evaluation={"slices": ["city"]})
    scores = RNG.random(len(frame))
    found, _ = measured(project, frame, prediction=scores)
    rows = (frame["city"] == "Rome").to_numpy()
    rome = found["city", "Rome"]
    expected = metric_value("roc_auc", frame["bought"][rows], scores[rows], "binary")
    assert (rome.rows, rome.estimate.value) == (rows.sum(), expected)
    assert rome.estimate.low < expected < rome.estimate.high


def test_whole_entities_are_resampled_in_a_slice(make_project, frame):
    project = make_project(evaluation={"slices": ["city"]})
    scores = np.tile(RNG.random(40), 10)
    repeated = pd.concat([frame.head(40)] * 10, ignore_index=True)
    entity = np.tile(np.arange(40), 10)
    alone, _ = measured(project, repeated, prediction=scores)
    together, _ = measured(project, repeated, prediction=scores, entity=entity)
    wide, narrow = together["city", "Rome"].estimate, alone["city", "Rome"].estimate
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_small_slices_are_counted_not_measured(make_project, frame):
    project = make_project(evaluation={"segments": {"few": "age > 75"}, "min_rows": 50})
    found, _ = measured(project, frame)
    few = found["segment", "few"]
    assert few.rows == (frame["age"] > 75).sum() < 50
    assert (few.estimate, few.note) == (None, "fewer than 50 rows")


def test_a_slice_with_one_class_is_not_measured(make_project, frame):
    project = make_project(evaluation={"segments": {"buyers": "bought == 1"}})
    found, _ = measured(project, frame)
    assert found["segment", "buyers"].note == "one class only"


def test_segments_select_what_the_condition_says(make_project, frame):
    condition = "age >= 40 and city == 'Rome'"
    frame.loc[:49, "age"] = np.nan
    project = make_project(evaluation={"segments": {"older romans": condition}})
    found, _ = measured(project, frame.convert_dtypes(), truth=frame["bought"].to_numpy(float))
    assert found["segment", "older romans"].rows == len(frame.query(condition))


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("height > 3", "height"),
        ("age >", "is not a condition: invalid syntax"),
        ("age + 1", "is not a condition"),
        ("big = age > 3", "is not a condition"),
        ("3 > 2", "names no column"),
        ("@__import__('os').system('true') == 0 or age > 3", "is not a condition"),
        ("city.str.upper().to_csv('out.csv')", "is not about one row"),
    ],
)
def test_a_wrong_condition_names_the_segment(make_project, frame, condition, message):
    project = make_project(evaluation={"segments": {"odd": condition}})
    with pytest.raises(ProjectError, match=rf"evaluation\.segments\.odd: .*{message}"):
        parts_of(frame, project)


def test_rare_values_are_taken_together(make_project, frame):
    frame["city"] = [f"city {i % 100:02}" for i in range(400)]
    found, _ = measured(make_project(evaluation={"slices": ["city"], "min_rows": 1}), frame)
    assert len(found) == MOST_VALUES + 1
    assert found["city", "80 rarer values"].rows == 320


def test_fairness_gaps_by_hand(make_project):
    """The definitions of fairlearn: selection rates, true and false positive rates."""
    frame = pd.DataFrame({"city": ["Rome"] * 100 + ["Oslo"] * 100 + ["Lima"] * 3})
    truth = np.array([1] * 50 + [0] * 50 + [1] * 50 + [0] * 50 + [1, 0, 1], dtype=float)
    chosen = np.array(
        # Rome: 40 of 50 found, 10 of 50 wrongly; Oslo: 30 of 50, 20 of 50
        [1] * 40
        + [0] * 10
        + [1] * 10
        + [0] * 40
        + [1] * 30
        + [0] * 20
        + [1] * 20
        + [0] * 30
        + [0, 0, 0]
    )
    project = make_project(protected=["city"], inputs=["age"])
    _, gaps = measured(project, frame, truth, chosen * 0.8 + 0.1)
    parity = gaps["city", "demographic parity difference"]
    assert parity.value == pytest.approx(0)
    odds = gaps["city", "equalized odds difference (true positive rate)"]
    assert (odds.value, odds.lowest, odds.highest) == (pytest.approx(0.2), "Oslo", "Rome")
    assert len([measure for _, measure in gaps if "odds" in measure]) == 1
    area = gaps["city", "roc_auc difference"]
    assert (area.value, area.highest) == (pytest.approx(0.2), "Rome")


def test_other_tasks_have_the_gap_of_their_metric(make_project, frame):
    contract = SMALL["contract"]
    columns = contract["columns"] | {"bought": {"type": "number"}}
    project = make_project(
        task="regression", protected=["city"], contract=contract | {"columns": columns}
    )
    prediction = frame["bought"] + np.where(frame["city"] == "Rome", 2.0, 1.0)
    _, gaps = measured(project, frame, prediction=prediction.to_numpy())
    assert {measure for _, measure in gaps} == {"rmse difference"}
    assert gaps["city", "rmse difference"].value == pytest.approx(1)


def test_one_group_has_no_gap(make_project, frame):
    frame["city"] = "Rome"
    _, gaps = measured(make_project(protected=["city"]), frame)
    assert not gaps
