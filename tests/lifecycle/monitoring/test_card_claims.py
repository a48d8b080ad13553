"""Claims of the model card that a labelled window disproves alarm; what holds says nothing."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from lifecycle.monitoring.claims import claim_alarms, slice_mask
from lifecycle.monitoring.scored import OpenWindow
from lifecycle.project import Project
from lifecycle.records import Alarm, Estimate, Evaluation, Gap, Slice, Window

ALPHA = 0.01
WINDOW = Window(first=3, last=3)
PARITY = "demographic parity difference"


@pytest.fixture
def project(make_project: Callable[..., Project]) -> Project:
    return make_project(
        protected=["city"],
        gate={
            "floor": 0.7,
            "max_fairness_gap": {"city": {"equal_opportunity_difference": 0.1}},
        },
    )


def window(gap: float = 0.0, rows: int = 4000, seed: int = 5) -> OpenWindow:
    """Rows of two cities; the share that is predicted positive differs by `gap`."""
    rng = np.random.default_rng(seed)
    city = np.where(np.arange(rows) % 2, "Oslo", "Rome").astype(object)
    chosen = rng.random(rows) < np.where(city == "Oslo", 0.4 + gap, 0.4)
    truth = np.where(rng.random(rows) < 0.85, chosen, ~chosen).astype(float)
    truth[:10] = np.nan
    prediction = np.where(chosen, 0.8, 0.2) + rng.random(rows) * 0.1
    attributes = {"city": city}
    return OpenWindow(
        pd.DataFrame(), prediction, truth, None, "binary", "bought", attributes=attributes
    )


def evaluation(value: float = 0.85, rows: int = 3990, gaps: tuple[Gap, ...] = ()) -> Evaluation:
    estimate = Estimate(value=value, low=value - 0.02, high=value + 0.02)
    return Evaluation(subject="m", metrics={"roc_auc": estimate}, holdout="h", rows=rows, gaps=gaps)


def claimed(value: float, measure: str = PARITY) -> Gap:
    return Gap(
        attribute="city",
        measure=measure,
        value=value,
        lowest="Oslo",
        highest="Rome",
        low=max(value - 0.03, 0.0),
        high=value + 0.03,
    )


def alarms(project: Project, current: OpenWindow, *gaps: Gap, value: float = 0.85) -> list[Alarm]:
    return claim_alarms(project, current, WINDOW, evaluation(value), evaluation(gaps=gaps), ALPHA)


def test_claims_that_hold_say_nothing(project: Project) -> None:
    assert alarms(project, window(0.02), claimed(0.02)) == []
    assert alarms(project, window(0.25), claimed(0.25)) == [], "it was claimed so"
    assert alarms(project, window(), claimed(0.02), value=0.69) == [], "within chance of the floor"


def test_a_gap_that_grew_disproves_the_claim(project: Project) -> None:
    [alarm] = alarms(project, window(0.3), claimed(0.02))
    assert (alarm.cause, alarm.column, alarm.metric) == ("quality", "city", PARITY)
    assert alarm.value > alarm.limit > 0.02
    assert "the model card claims a demographic parity difference of 0.02 (0 to 0.05)" in alarm.text
    assert "lowest for Rome, highest for Oslo" in alarm.text


def test_a_declared_limit_is_the_claim(project: Project) -> None:
    measure = "equal opportunity difference"
    assert alarms(project, window(0.2), claimed(0.02, measure)) == [], "0.1 is allowed"
    [alarm] = alarms(project, window(0.5), claimed(0.02, measure))
    assert "of at most 0.1" in alarm.text


def test_one_alarm_for_an_attribute_with_several_false_claims(project: Project) -> None:
    gaps = (claimed(0.02), claimed(0.02, "equal opportunity difference"))
    assert len(alarms(project, window(0.5), *gaps)) == 1


def test_a_metric_below_its_floor(project: Project) -> None:
    [alarm] = alarms(project, window(), value=0.6)
    assert (alarm.column, alarm.value) == ("roc_auc", 0.6)
    assert alarm.limit < 0.7
    assert "no worse than 0.7, and here it is 0.6" in alarm.text


def test_without_labels_rows_or_claims_nothing_is_judged(
    project: Project, make_project: Callable[..., Project]
) -> None:
    current, released = window(0.4), evaluation(gaps=(claimed(0.0),))
    assert claim_alarms(project, current, WINDOW, None, released, ALPHA) == []
    few = evaluation(rows=project.monitoring.min_rows - 1)
    assert claim_alarms(project, current, WINDOW, few, released, ALPHA) == []
    plain = make_project()
    assert claim_alarms(plain, current, WINDOW, evaluation(), evaluation(), ALPHA) == []
    elsewhere = claimed(0.0).model_copy(update={"lowest": "Lima"})
    assert alarms(project, current, elsewhere) == [], "a group of the claim is not in the window"


def test_equal_groups_hardly_ever_alarm(project: Project) -> None:
    raised = [alarms(project, window(0.02, 800, seed), claimed(0.03)) for seed in range(40)]
    assert sum(map(bool, raised)) == 0


# Slices.


@pytest.fixture
def sliced(make_project: Callable[..., Project]) -> Project:
    """No claim but those of slices, by a column of categories and one of numbers."""
    return make_project(
        evaluation={"slices": ["city", "age"], "segments": {"old": "age >= 60"}, "min_rows": 50}
    )


def uneven(worse: str, share: float, rows: int = 4000, seed: int = 5) -> OpenWindow:
    """Rows of two cities; in one of them a share of the answers is turned around."""
    rng = np.random.default_rng(seed)
    city = np.where(np.arange(rows) % 2, "Oslo", "Rome").astype(object)
    truth = (rng.random(rows) < 0.5).astype(float)
    right = rng.random(rows) < np.where(city == worse, 0.85 - share, 0.85)
    prediction = np.where(right, truth, 1 - truth) * 0.6 + 0.2 + rng.random(rows) * 0.1
    age = np.array([str(20 + at % 60) for at in range(rows)], dtype=object)
    return OpenWindow(
        pd.DataFrame(),
        prediction,
        truth,
        None,
        "binary",
        "bought",
        attributes={"city": city, "age": age},
        segments={"old": np.arange(rows) % 60 >= 40},
    )


def sliced_evaluation(value: float = 0.85, **values: float) -> Evaluation:
    """An evaluation that claims a value for each city."""
    slices = tuple(
        Slice(
            by="city", value=city, rows=400, estimate=Estimate(value=v, low=v - 0.03, high=v + 0.03)
        )
        for city, v in values.items()
    )
    return evaluation(value).model_copy(update={"slices": slices})


def test_a_slice_that_fell_disproves_its_claim(sliced: Project) -> None:
    released = sliced_evaluation(Oslo=0.85, Rome=0.85)
    [alarm] = claim_alarms(sliced, uneven("Rome", 0.2), WINDOW, evaluation(), released, ALPHA)
    assert (alarm.cause, alarm.metric, alarm.slice) == ("quality", "roc_auc", "city = Rome")
    assert alarm.value < alarm.limit < 0.85
    assert "claims a roc_auc of 0.85 (0.82 to 0.88) where city = Rome, and here it is" in alarm.text


def test_slices_that_hold_or_were_claimed_so_say_nothing(sliced: Project) -> None:
    released = sliced_evaluation(Oslo=0.85, Rome=0.85)
    assert claim_alarms(sliced, uneven("", 0), WINDOW, evaluation(), released, ALPHA) == []
    low = sliced_evaluation(Oslo=0.85, Rome=0.65)
    assert claim_alarms(sliced, uneven("Rome", 0.2), WINDOW, evaluation(), low, ALPHA) == []


def test_where_all_rows_are_worse_a_slice_is_not_said_as_well(sliced: Project) -> None:
    released = sliced_evaluation(Oslo=0.85, Rome=0.85)
    fell = evaluation(0.7)
    assert claim_alarms(sliced, uneven("Rome", 0.2), WINDOW, fell, released, ALPHA) == []


def test_equal_slices_hardly_ever_alarm(sliced: Project) -> None:
    released = sliced_evaluation(Oslo=0.85, Rome=0.85)
    raised = [
        claim_alarms(sliced, uneven("", 0, 800, seed), WINDOW, evaluation(), released, ALPHA)
        for seed in range(40)
    ]
    assert sum(map(bool, raised)) == 0


@pytest.mark.parametrize(
    ("by", "value", "rows"),
    [
        ("city", "Rome", 2000),
        ("city", "Lima", 0),
        ("city", "missing", 0),
        ("age", "up to 34", 1005),
        ("age", "over 34 to 49", 1005),
        ("segment", "old", 1320),
        ("segment", "young", None),
        ("income", "up to 3", None),
    ],
)
def test_the_rows_of_a_claimed_slice(
    sliced: Project, by: str, value: str, rows: int | None
) -> None:
    claim = Slice(by=by, value=value, rows=1, estimate=None)
    mask = slice_mask(claim, uneven("", 0), sliced)
    assert (None if mask is None else int(mask.sum())) == rows
