"""Gaps between groups have intervals that hold for the widest of many pairs, too."""

import numpy as np
import pytest

from lifecycle.training.evaluation.fairness import fairness_gaps
from lifecycle.training.evaluation.slices import RowGroup

DIFFERENCES = ("demographic parity", "equal opportunity", "equalized odds")


@pytest.fixture
def project(make_project):
    return make_project(protected=["city"], inputs=["age"], gate={"metric": "log_loss"})


def drawn(seed, rows, groups, apart=0.0):
    """Groups of equal size; the last one's positives are missed more often by `apart`."""
    draw = np.random.default_rng(seed)
    group = np.arange(rows) % groups
    truth = (draw.random(rows) < 0.4).astype(float)
    found = draw.random(rows) < np.where(truth == 1, 0.7 - apart * (group == groups - 1), 0.2)
    parts = [RowGroup("city", str(one), group == one) for one in range(groups)]
    return parts, truth, np.where(found, 0.8, 0.2)


def gaps_of(project, parts, truth, prediction, entity=None):
    found = fairness_gaps(parts, truth, prediction, entity, project, {})
    return {gap.measure.partition(" difference")[0]: gap for gap in found}


@pytest.mark.parametrize(("groups", "rows"), [(2, 400), (8, 800)])
def test_equal_groups_seldom_have_a_gap_beyond_chance(project, groups, rows):
    """One in twenty; the widest of many gaps is never small itself."""
    runs = [gaps_of(project, *drawn(seed, rows, groups)) for seed in range(40)]
    for name in DIFFERENCES:
        beyond = sum(run[name].low > 0 for run in runs)
        assert beyond <= 6, name  # more by chance: once in 400
        assert all(run[name].low <= run[name].value <= run[name].high <= 1 for run in runs)
    if groups > 2:
        assert np.mean([run["equal opportunity"].value for run in runs]) > 0.15


def test_a_true_gap_is_inside_and_beyond_chance(project):
    runs = [gaps_of(project, *drawn(seed, 2000, 2, apart=0.3)) for seed in range(20)]
    odds = [run["equal opportunity"] for run in runs]
    assert all(gap.low > 0.1 for gap in odds)
    assert sum(gap.low <= 0.3 <= gap.high for gap in odds) >= 17
    assert {(gap.lowest, gap.highest) for gap in odds} == {("1", "0")}
    assert {run["equalized odds"].value for run in runs} == {gap.value for gap in odds}


def test_none_of_a_few_is_not_known_to_be_none_of_all(project):
    """Two positives in a group, both missed: in every resample, too, yet that is chance."""
    parts, truth, prediction = drawn(1, 400, 2)
    small = np.flatnonzero(parts[1].mask)
    truth[small] = 0
    truth[small[:2]], prediction[small[:2]] = 1, 0.2
    gap = gaps_of(project, parts, truth, prediction)["equal opportunity"]
    assert gap.value > 0.5
    assert gap.low < 0.2


def test_whole_entities_are_drawn(project):
    parts, truth, prediction = drawn(1, 100, 2)
    parts = [part._replace(mask=np.tile(part.mask, 10)) for part in parts]
    truth, prediction = np.tile(truth, 10), np.tile(prediction, 10)
    alone = gaps_of(project, parts, truth, prediction)["demographic parity"]
    together = gaps_of(project, parts, truth, prediction, np.tile(np.arange(100), 10))
    wide = together["demographic parity"]
    assert wide.high - wide.low > 2 * (alone.high - alone.low)


def test_a_group_without_a_class_is_compared_by_what_it_has(project):
    parts, truth, prediction = drawn(1, 300, 3)
    truth[parts[2].mask] = 0
    found = gaps_of(project, parts, truth, prediction)
    assert "2" not in (found["equal opportunity"].lowest, found["equal opportunity"].highest)
    assert found["demographic parity"].high > 0
