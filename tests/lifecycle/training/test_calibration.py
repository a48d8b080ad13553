"""Calibrated probabilities mean what they say, keep their order, and are data in the bundle."""

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from lifecycle.errors import TrainingError
from lifecycle.features.encode import labels
from lifecycle.lake.read import read_version
from lifecycle.records import Tuned
from lifecycle.runtime.identity import identity_of
from lifecycle.training.bundle import load_bundle
from lifecycle.training.calibration import Calibration, calibrate
from lifecycle.training.fit import fit
from lifecycle.training.predictor import open_predictor


def calibration_error(probability, truth, bins=10):
    """Expected calibration error in bins of equal width (Naeini, Cooper and Hauskrecht, 2015)."""
    at = np.minimum((probability * bins).astype(int), bins - 1)
    rows = np.bincount(at, minlength=bins)
    gap = np.abs(np.bincount(at, probability, bins) - np.bincount(at, truth, bins))
    return float(gap[rows > 0].sum() / len(truth))


def overconfident(rows, seed):
    """Probabilities that lie three times too far out and too high, and the truth."""
    draw = np.random.default_rng(seed)
    margin = draw.normal(size=rows)
    truth = (draw.random(rows) < 1 / (1 + np.exp(-margin))).astype(float)
    return 1 / (1 + np.exp(-(3 * margin + 1))), truth


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_a_miscalibrated_model_is_mended_on_rows_it_has_not_seen(method):
    calibration = calibrate(method, *overconfident(4000, seed=1))
    probability, truth = overconfident(4000, seed=2)
    before = calibration_error(probability, truth)
    after = calibration_error(calibration.apply(probability), truth)
    assert before > 0.15
    assert after < 0.03


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_order_is_kept_and_nothing_is_certain(method):
    calibration = calibrate(method, *overconfident(500, seed=1))
    answers = calibration.apply(np.linspace(0, 1, 1001))
    assert (np.diff(answers) >= 0).all()
    assert 0 < answers[0] < answers[-1] < 1


def test_sigmoid_is_platts():
    """The maximum of the likelihood with his targets, found here by brute force."""
    probability, truth = overconfident(5000, seed=1)
    found = calibrate("sigmoid", probability, truth)
    margin = np.log(probability / (1 - probability))
    ones = truth.sum()
    target = np.where(truth == 1, (ones + 1) / (ones + 2), 1 / (len(truth) - ones + 2))

    def loss(slope, intercept):
        score = slope * margin + intercept
        return (np.logaddexp(0, score) - target * score).sum()

    best = loss(*found.values)
    for step in (1e-3, -1e-3):
        assert loss(found.values[0] + step, found.values[1]) > best
        assert loss(found.values[0], found.values[1] + step) > best
    assert found.values == pytest.approx((1 / 3, -1 / 3), abs=0.1)


def test_isotonic_is_scikit_learns():
    probability, truth = overconfident(2000, seed=1)
    probability = probability.round(2)  # many rows with the same answer
    expected = IsotonicRegression(out_of_bounds="clip").fit(probability, truth)
    found = calibrate("isotonic", probability, truth)
    everywhere = np.linspace(-0.1, 1.1, 500)
    bound = 1 / 2002
    np.testing.assert_allclose(
        found.apply(everywhere), expected.predict(everywhere).clip(bound, 1 - bound), atol=1e-3
    )
    assert len(found.points) < 60  # level stretches have two ends


def test_it_survives_json_bit_by_bit():
    for method in ("sigmoid", "isotonic"):
        calibration = calibrate(method, *overconfident(500, seed=1))
        again = Calibration.model_validate_json(calibration.model_dump_json())
        assert again == calibration


def test_perfect_ranking_has_a_finite_answer():
    probability = np.array([0.1, 0.2, 0.8, 0.9])
    answers = calibrate("sigmoid", probability, np.array([0.0, 0, 1, 1])).apply(probability)
    assert ((answers > 0.05) & (answers < 0.95)).all()


@pytest.mark.parametrize(
    ("truth", "message"),
    [([1.0, 1, 1, 1], "validation part has one class only"), ([1.0, 1, 0, 0], "do not rise")],
)
def test_what_cannot_be_calibrated_is_said(truth, message):
    with pytest.raises(TrainingError, match=rf"training\.calibration: .*{message}"):
        calibrate("sigmoid", np.array([0.1, 0.2, 0.8, 0.9]), np.array(truth))


@pytest.mark.component
def test_fit_calibrates_on_the_validation_part(make_project, prepare, settings, ray_cluster):
    # leaves that are hardly shrunk and weights that tip the scales: far from calibrated
    training = {
        "rounds": 60,
        "early_stopping_rounds": 60,
        "class_weight": {"1": 20.0},
        "parameters": {"max_depth": 3, "eta": 0.5},
    }
    errors = {}
    for method in ("none", "sigmoid"):
        project = make_project(training=training | {"calibration": method})
        split = prepare(project)
        tuned = Tuned(parameters=project.training.parameters, value=None, trials=0)
        identity = identity_of(project, split, "", threads=1)
        bundle = fit(project, split, tuned, settings, identity)
        loaded = load_bundle(bundle.path, bundle.digest)
        assert (loaded.schema.calibration is None) == (method == "none")
        frame = read_version(split.holdout)
        answers = open_predictor(loaded, project).predict(frame)
        errors[method] = calibration_error(answers, labels(frame, project))
    assert errors["sigmoid"] < errors["none"] - 0.02
