"""The gate: every condition for itself, words with numbers, and what must never pass."""

import math

import pytest

from lifecycle.project import (
    DriftSpec,
    GateSpec,
    Metric,
    MonitoringSpec,
    RetrainingSpec,
    greater_is_better,
)
from lifecycle.quality.gates import compared, decide, decide_retraining, render
from lifecycle.quality.summary import _gate, as_text
from lifecycle.records import (
    CheckReport,
    ColumnDrift,
    Decision,
    DriftReport,
    Estimate,
    Evaluated,
    Evaluation,
    Gain,
    Gap,
    ModelVersion,
    Noise,
    Release,
    Window,
)


def evaluation(
    value: float, subject: str = "challenger v2", metric: Metric = "roc_auc", holdout: str = "h1"
) -> Evaluation:
    estimate = Estimate(value=value, low=value - 0.01, high=value + 0.01)
    return Evaluation(subject=subject, metrics={metric: estimate}, holdout=holdout, rows=500)


def checks(failed: dict[str, str] | None = None, passed: tuple[str, ...] = ("A",)) -> CheckReport:
    return CheckReport(
        passed=passed,
        failed=failed or {},
        not_run={"Boosting Overfit": "needs the model"},
        reports=(),
        sampled_rows=100,
    )


BASELINE = evaluation(0.5, "baseline")


def gain(value: float, doubt: float = 0.004) -> Gain:
    """A gain that is known to `doubt` in pairs, two sided, and to 0.6 of it on one side."""
    low, high, least = value - doubt, value + doubt, value - 0.6 * doubt
    return Gain(value=value, low=low, high=high, least=least, confidence=0.9)


def evaluated(
    challenger: Evaluation,
    champion: Evaluation | None = None,
    baseline: Evaluation = BASELINE,
    doubt: float = 0.004,
) -> Evaluated:
    def over(other: Evaluation) -> Gain:
        ((metric, ours),) = challenger.metrics.items()
        theirs = other.metrics.get(metric, ours)
        sign = 1 if greater_is_better(metric) else -1
        return gain(sign * (ours.value - theirs.value), doubt)

    return Evaluated(
        candidate=challenger,
        baseline=baseline,
        champion=champion,
        gain_over_baseline=over(baseline),
        gain_over_champion=over(champion) if champion else None,
    )


def decision(
    challenger: float,
    champion: float | None = None,
    report: CheckReport | None = None,
    accept: dict[str, str] | None = None,
    **gate: object,
) -> Decision:
    rival = None if champion is None else evaluation(champion, "champion v1")
    return decide(
        evaluated(evaluation(challenger), rival),
        report or checks(),
        GateSpec.model_validate(gate),
        "roc_auc",
        accept,
    )


def test_passes_and_says_why() -> None:
    passed = decision(0.72, 0.70, floor=0.62, gain_over_baseline=0.05)
    assert passed.passed
    text = "\n".join(passed.reasons)
    assert "Floor held: roc_auc 0.72 (95 % CI 0.71 to 0.73)" in text
    assert "Better than baseline" in text
    assert "Better than champion v1" in text
    assert "Measured in pairs the gain is 0.02, with 90 % confidence at least 0.0176" in text
    assert "1 passed, 0 failed, 1 did not run and count as neither" in text


def test_floor_says_how_much_is_short() -> None:
    failed = decision(0.60, floor=0.62)
    assert not failed.passed
    assert "Floor missed" in failed.reasons[0]
    assert "0.02 short" in failed.reasons[0]


def test_a_worse_challenger_does_not_replace_the_champion() -> None:
    failed = decision(0.69, 0.70)
    assert not failed.passed
    assert any("Worse than champion v1, beyond chance" in reason for reason in failed.reasons)


def test_a_gain_that_chance_explains_keeps_the_champion() -> None:
    failed = decision(0.702, 0.70)
    assert not failed.passed
    assert "No difference to champion v1 beyond chance" in failed.blocking[0]
    assert decision(0.704, 0.70).passed


def test_a_model_that_may_be_no_better_than_a_trivial_one_is_refused() -> None:
    failed = decision(0.502)
    assert not failed.passed
    assert "No difference to baseline beyond chance" in failed.blocking[0]


def test_a_tie_is_no_gain_unless_a_loss_is_allowed() -> None:
    tie = decision(0.7, 0.7)
    assert not tie.passed
    assert "A tie keeps the champion." in tie.blocking[0]
    assert decision(0.7, 0.7, gain_over_champion=-0.01).passed
    assert not decision(0.7, 0.7, gain_over_champion=-0.001).passed, "the loss may be larger"


@pytest.mark.parametrize(
    ("found", "required", "holds", "words"),
    [
        (gain(0.02), 0.0, True, "Better than v1, beyond chance"),
        (gain(0.002), 0.0, False, "No difference to v1 beyond chance"),
        (gain(0.0, 0.0), 0.0, False, "No difference to v1 beyond chance"),
        (gain(-0.02), 0.0, False, "Worse than v1, beyond chance"),
        (gain(0.02), 0.03, False, "Better than v1, but not by as much as asked for"),
        (gain(0.0), -0.01, True, "No worse than allowed beside v1, beyond chance"),
        (gain(math.nan), -9.0, False, "Not to be compared with v1"),
    ],
)
def test_the_words_for_a_gain(found: Gain, required: float, holds: bool, words: str) -> None:
    assert compared(found, "v1", required) == (holds, words)


def test_a_gain_that_is_asked_for_must_be_reached() -> None:
    assert decision(0.72, 0.70, gain_over_champion=0.01).passed
    assert not decision(0.705, 0.70, gain_over_champion=0.01).passed


def test_smaller_is_better_for_losses() -> None:
    def compare(challenger: float) -> bool:
        ours, theirs = evaluation(challenger, metric="rmse"), evaluation(10.0, "champion", "rmse")
        return decide(
            evaluated(ours, theirs, evaluation(20.0, "baseline", "rmse")),
            checks(),
            GateSpec(floor=12.0),
            "rmse",
        ).passed

    assert compare(9.0)
    assert not compare(11.0)


@pytest.mark.parametrize("against", ["challenger", "champion", "baseline"])
def test_what_is_no_number_never_passes(against: str) -> None:
    values = {"challenger": 0.8, "champion": 0.7, "baseline": 0.5} | {against: math.nan}
    made = {name: evaluation(value, name) for name, value in values.items()}
    gate = GateSpec(floor=0.1, gain_over_baseline=-10, gain_over_champion=-10)
    order = made["challenger"], made["champion"], made["baseline"]
    assert not decide(evaluated(*order), checks(), gate, "roc_auc").passed


def test_different_holdouts_are_not_compared() -> None:
    other = evaluation(0.5, "champion v1", holdout="h2")
    with pytest.raises(ValueError, match="champion v1 were evaluated on different holdouts"):
        decide(evaluated(evaluation(0.7), other), checks(), GateSpec(), "roc_auc")


def test_a_missing_metric_is_named() -> None:
    with pytest.raises(ValueError, match="challenger v2 has no brier, only roc_auc"):
        decide(evaluated(evaluation(0.7)), checks(), GateSpec(), "brier")


def test_a_failed_check_blocks_and_shows_the_way_out() -> None:
    report = checks({"Label Drift (train)": "Drift 0.4."})
    failed = decision(0.7, report=report)
    assert not failed.passed
    assert any('checks: {accept: {"Label Drift": "…"}}' in reason for reason in failed.reasons)
    assert decision(0.7, report=report, require_checks=False).passed


@pytest.mark.parametrize("key", ["Label Drift (train)", "Label Drift", "label_drift"])
def test_an_accepted_check_does_not_block_and_the_reason_is_shown(key: str) -> None:
    passed = decision(
        0.7, report=checks({"Label Drift (train)": "Drift."}), accept={key: "known season"}
    )
    assert passed.passed
    assert any("Accepted: known season." in reason for reason in passed.reasons)


def test_accepting_one_check_accepts_no_other() -> None:
    report = checks({"Label Drift (train)": "Drift.", "Feature Drift": "Drift."})
    assert not decision(0.7, report=report, accept={"Label Drift": "season"}).passed


def test_no_check_ran_is_not_all_checks_passed() -> None:
    assert not decision(0.7, report=checks(passed=())).passed
    assert decision(0.7, report=checks(passed=()), require_checks=False).passed


def window(name: int, drifted: int = 0, predictions: float = 0.0) -> DriftReport:
    columns = tuple(
        ColumnDrift(column=f"c{i}", test="ks", statistic=0.3 if i < drifted else 0.0, threshold=0.1)
        for i in range(10)
    )
    answers = ColumnDrift(column="prediction", test="ks", statistic=predictions, threshold=0.1)
    return DriftReport(
        window=Window(first=name, last=name),
        reference_rows=100,
        current_rows=100,
        features=columns,
        predictions=answers,
    )


RELEASED = evaluation(0.70, "v1 at release")


def retraining(drift: list[DriftReport], quality: list[float | None], **spec: object) -> Decision:
    retrain = RetrainingSpec.model_validate(
        {"triggers": spec.pop("triggers", ("drift", "quality"))}
    )
    return decide_retraining(
        drift,
        [None if value is None else evaluation(value, holdout="window") for value in quality],
        RELEASED,
        MonitoringSpec.model_validate({"drift": DriftSpec(max_drifted_share=0.25)} | spec),
        retrain,
        "roc_auc",
    )


def test_nothing_to_do() -> None:
    calm = retraining([window(4, drifted=2)], [0.69])
    assert calm.passed
    assert "2 of 10 features drifted: c0 (ks 0.3, limit 0.1)" in calm.reasons[0]
    assert "within the loss of 0.035 allowed (max_quality_loss: 5%)" in calm.reasons[0]
    assert "Nothing to do" in calm.reasons[-1]


@pytest.mark.parametrize(
    ("report", "value", "cause"),
    [
        (window(4, drifted=3), 0.70, "drift"),
        (window(4, predictions=0.2), 0.70, "drift"),
        (window(4), 0.60, "quality"),
        (window(4), math.nan, "quality"),
        (window(4, drifted=3), 0.60, "drift and quality"),
    ],
)
def test_each_cause_asks_for_retraining(report: DriftReport, value: float, cause: str) -> None:
    found = retraining([report], [value])
    assert not found.passed
    alone = ", which the project says is reason enough (retraining.triggers)"
    assert found.reasons[-1].endswith(f"by {cause}{alone if cause == 'drift' else ''}.")


def test_a_cause_that_is_no_trigger_is_said_but_starts_nothing() -> None:
    assert RetrainingSpec().triggers == ("quality",)
    found = retraining([window(4, drifted=9)], [0.70], triggers=("quality",))
    assert found.passed
    assert "Drift alone is no reason to retrain here (retraining.triggers)." in found.reasons[0]


def test_no_labels_yet_is_not_bad_quality() -> None:
    found = retraining([window(4)], [None])
    assert found.passed
    assert "No labels to measure quality with yet." in found.reasons[0]


@pytest.mark.parametrize(
    ("values", "asked"),
    [
        ([0.7, 0.6, 0.6], True),
        ([0.6, 0.7, 0.6], True),
        ([0.6, 0.6, 0.7], False),  # the newest is fine again
        ([0.7, 0.7, 0.6], False),  # one odd window
        ([0.6, 0.6, 0.6, 0.7, 0.7], False),  # long gone
    ],
)
def test_n_of_the_last_m_and_the_newest(values: list[float | None], asked: bool) -> None:
    drift = [window(i) for i in range(len(values))]
    found = retraining(drift, values, windows=3, violations=2)
    assert found.passed is not asked


def test_no_window_yet() -> None:
    assert retraining([], []).passed


def test_windows_and_quality_belong_together() -> None:
    with pytest.raises(ValueError, match="shorter"):
        retraining([window(1), window(2)], [0.7])


def test_render_is_markdown_without_markup_from_data() -> None:
    text = render(Decision(gate="promotion", passed=False, reasons=("column <b> drifted",)))
    assert text == "## Gate `promotion`: not passed\n\n- column &lt;b> drifted\n"
    assert "nothing to do" in render(Decision(gate="retraining", passed=True, reasons=()))


NOISE = Noise(metric="roc_auc", values={17: 0.70, 18: 0.71, 19: 0.72})


def noisy(challenger: float, noise: Noise | None, times: float) -> Decision:
    gate = GateSpec(seeds=3, gain_over_noise=times)
    champion = evaluation(0.70, "champion v1")
    return decide(
        evaluated(evaluation(challenger), champion), checks(), gate, "roc_auc", noise=noise
    )


def test_a_gain_must_exceed_the_noise_over_seeds() -> None:
    assert NOISE.deviation == pytest.approx(0.01)
    passed = noisy(0.73, NOISE, 2)
    assert passed.passed
    assert any(reason.startswith("More than noise: over 3 seeds") for reason in passed.reasons)
    refused = noisy(0.719, NOISE, 2)
    assert not refused.passed
    assert any("Not more than noise" in reason for reason in refused.reasons)


def test_noise_that_is_only_known_is_told_and_does_not_block() -> None:
    told = noisy(0.715, NOISE, 0)
    assert told.passed
    assert any("within twice the noise" in reason for reason in told.reasons)


def test_unmeasured_noise_blocks_where_the_gate_asks_for_it() -> None:
    refused = noisy(0.9, None, 2)
    assert not refused.passed
    assert any("--seeds" in reason for reason in refused.reasons)


def test_the_gate_refuses_to_judge_noise_by_one_seed() -> None:
    with pytest.raises(ValueError, match="needs seeds: 3 or more"):
        GateSpec(gain_over_noise=1)


def gap(value: float, low: float | None, high: float | None, measure: str) -> Gap:
    return Gap(
        attribute="sex", measure=measure, value=value, lowest="f", highest="m", low=low, high=high
    )


ODDS = "equalized odds difference (true positive rate)"


@pytest.mark.parametrize(
    ("value", "low", "high", "passes", "words"),
    [
        (0.12, 0.06, 0.18, False, "Unfair beyond chance: equalized odds difference"),
        (0.12, 0.05, 0.18, True, "the gap is above the limit, and these rows cannot tell"),
        (0.04, 0.00, 0.09, True, "the gap is within the limit, and these rows cannot tell"),
        (0.02, 0.00, 0.05, True, "Fairness kept: equalized odds difference"),
        (0.12, None, None, False, "Fairness unknown: gate.max_fairness_gap.sex"),
    ],
)
def test_a_gap_blocks_beyond_its_limit_by_more_than_chance(
    value: float, low: float | None, high: float | None, passes: bool, words: str
) -> None:
    spec = GateSpec(max_fairness_gap={"sex": {"equalized_odds_difference": 0.05}})
    other = gap(0.9, 0.8, 1.0, "equal opportunity difference")  # no limit is declared for it
    measured = evaluation(0.8).model_copy(update={"gaps": (other, gap(value, low, high, ODDS))})
    found = decide(evaluated(measured), checks(), spec, "roc_auc")
    assert found.passed == passes
    reason = next(reason for reason in found.reasons if words in reason)
    assert "gate.max_fairness_gap.sex.equalized_odds_difference" in reason
    if low is not None:
        assert f"{value:.4g} (95 % CI {low:.4g} to {high:.4g})" in reason
        assert "lowest for f, highest for m" in reason
    assert (reason in found.blocking) == (not passes)


def test_the_gap_of_the_deciding_metric_has_its_name() -> None:
    spec = GateSpec(max_fairness_gap={"sex": {"metric_difference": 0.1}})
    measured = evaluation(0.8).model_copy(
        update={"gaps": (gap(0.3, 0.2, 0.4, "roc_auc difference"),)}
    )
    assert not decide(evaluated(measured), checks(), spec, "roc_auc").passed
    assert not decide(evaluated(evaluation(0.8)), checks(), spec, "roc_auc").passed


def test_warnings_are_reasons_that_block_nothing() -> None:
    warned = evaluation(0.72).model_copy(update={"warnings": ("Only 2 boosting rounds.",)})
    found = decide(evaluated(warned), checks(), GateSpec(), "roc_auc")
    assert found.passed
    assert "Warning: Only 2 boosting rounds." in found.reasons
    assert not found.blocking
    model = ModelVersion(name="a", version=1, uri="", run_id="", digest="", identity="")
    release = Release(
        decision=found,
        challenger=model,
        champion=model,
        evaluation=warned,
        champion_evaluation=None,
        endpoint=None,
    )
    screen = as_text([_gate(release)])
    assert "· Warning: Only 2 boosting rounds." in screen
    assert "Floor" not in screen  # what held is told before
