"""The decision threshold: given, cheapest, or of a rate; and as part of the bundle."""

import numpy as np
import pytest

from lifecycle.errors import TrainingError
from lifecycle.lake.read import read_version
from lifecycle.project import DecisionSpec
from lifecycle.records import Tuned
from lifecycle.runtime.identity import identity_of
from lifecycle.training.bundle import load_bundle
from lifecycle.training.fit import decision_threshold, fit, threshold_of_rate
from lifecycle.training.predictor import open_predictor
from tests.support.small import SMALL, small_frame

OWN = Tuned(parameters={"max_depth": 3}, value=None, trials=0)


def decision(**keys):
    return DecisionSpec.model_validate(keys)


def answers(rows, seed, shift=0.0):
    """Probabilities whose log-odds are `shift` too high, and the truth."""
    draw = np.random.default_rng(seed)
    margin = draw.normal(-1, 1.5, rows)
    truth = (draw.random(rows) < 1 / (1 + np.exp(-margin))).astype(float)
    return 1 / (1 + np.exp(-(margin + shift))), truth


def cost(probability, truth, threshold, false_positive, false_negative):
    chosen = probability >= threshold
    wrong = false_positive * (chosen & (truth == 0)) + false_negative * (~chosen & (truth == 1))
    return wrong.mean()


def test_none_and_a_given_one_need_no_data():
    nothing = np.array([])
    assert decision_threshold(None, nothing, nothing) == 0.5
    assert decision_threshold(decision(threshold=0.3), nothing, nothing) == 0.3


@pytest.mark.parametrize(("alarm", "miss"), [(1, 5), (3, 1), (1, 1)])
def test_calibrated_probabilities_take_elkans_formula(alarm, miss):
    spec = decision(costs={"false_positive": alarm, "false_negative": miss})
    found = decision_threshold(spec, *answers(10, 1), calibrated=True)
    assert found == pytest.approx(alarm / (alarm + miss))


@pytest.mark.parametrize("shift", [0.0, 2.0, -2.0])
def test_the_cost_is_near_the_least_there_is_however_far_off_probabilities_are(shift):
    """A class weight shifts the log-odds, as `shift` does."""
    spec = decision(costs={"false_positive": 1, "false_negative": 5})
    threshold = decision_threshold(spec, *answers(2000, 1, shift))
    probability, truth = answers(20_000, 2, shift)
    least = min(
        cost(probability, truth, t, 1, 5) for t in np.quantile(probability, np.linspace(0, 1, 200))
    )
    assert cost(probability, truth, threshold, 1, 5) < 1.03 * least
    assert cost(probability, truth, 0.5, 1, 5) > (1.2 if shift <= 0 else 1.0) * least


def test_costs_without_two_classes_take_probabilities_as_they_are(caplog):
    spec = decision(costs={"false_positive": 1, "false_negative": 4})
    assert decision_threshold(spec, np.array([0.2, 0.4]), np.zeros(2)) == 0.2
    assert "decision.costs: the validation part cannot tell" in caplog.text


def test_a_rate_is_met_and_no_row_lies_on_the_threshold():
    probability, _ = answers(997, 1)
    threshold = threshold_of_rate(probability, 0.1)
    assert round((probability >= threshold).mean(), 3) == 0.1
    assert np.abs(probability - threshold).min() > 1e-7


@pytest.mark.parametrize(
    ("values", "rate", "share"),
    [
        ([0.2] * 6 + [0.8] * 4, 0.1, 0.0),  # 0 is nearer to 0.1 than 0.4 is
        ([0.2] * 6 + [0.8] * 4, 0.3, 0.4),
        ([0.2] * 6 + [0.8] * 4, 0.9, 1.0),
        ([0.0, 1.0], 0.01, 0.0),
        ([0.0, 1.0], 0.99, 1.0),
        ([0.5, np.nextafter(0.5, 1)], 0.5, 0.5),
    ],
)
def test_ties_stay_together(values, rate, share):
    probability = np.array(values)
    assert (probability >= threshold_of_rate(probability, rate)).mean() == share


def test_no_row_to_find_it_on():
    with pytest.raises(TrainingError, match=r"decision: the validation part has no row.*threshold"):
        decision_threshold(decision(rate=0.1), np.array([]), np.array([]))


@pytest.mark.parametrize("calibration", ["none", "isotonic"])
def test_the_bundle_has_the_threshold_and_both_values(make_project, prepare, settings, calibration):
    names = {0: "stays", 1: "leaves"}
    frame = small_frame()
    frame["bought"] = frame["bought"].map(names)
    columns = SMALL["contract"]["columns"] | {"bought": {"type": "string"}}
    changes = {
        "positive": "leaves",
        "contract": SMALL["contract"] | {"columns": columns},
        "training": {"rounds": 10, "calibration": calibration, "refit": False},
    }
    digests = set()
    for rate in (None, 0.6, 0.2):
        declared = {} if rate is None else {"decision": {"rate": rate}}
        project = make_project(frame, **changes, **declared)
        split = prepare(project)
        identity = identity_of(project, split, "", threads=1).model_copy(update={"digest": "one"})
        bundle = fit(project, split, OWN, settings, identity)
        digests.add(bundle.digest)
        loaded = load_bundle(bundle.path, bundle.digest)
        schema = loaded.schema
        if rate is None:
            assert (schema.threshold, schema.labels) == (0.5, ())
            continue
        assert schema.labels == ("stays", "leaves")
        validation = read_version(split.validation)
        chosen = open_predictor(loaded, project).predict(validation) >= schema.threshold
        counts = np.unique(open_predictor(loaded, project).predict(validation), return_counts=True)
        off = counts[1].max() / len(chosen)  # as near as ties allow
        assert abs(chosen.mean() - rate) <= off
    assert len(digests) == 3


@pytest.mark.parametrize("calibration", ["none", "sigmoid"])
def test_a_refit_keeps_the_threshold_found_before(make_project, prepare, settings, calibration):
    """The refitted model has learned from the validation part, which then says nothing of it."""
    found = {}
    for refit in (False, True):
        training = {"rounds": 10, "calibration": calibration, "refit": refit}
        costs = {"false_positive": 1, "false_negative": 4}
        project = make_project(training=training, decision={"costs": costs})
        split = prepare(project)
        bundle = fit(project, split, OWN, settings, identity_of(project, split, "", threads=1))
        loaded = load_bundle(bundle.path, bundle.digest)
        answers = open_predictor(loaded, project).predict(read_version(split.holdout))
        found[refit] = loaded.schema.threshold, answers
    assert found[True][0] == found[False][0]
    assert not np.array_equal(found[True][1], found[False][1])
