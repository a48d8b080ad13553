"""The one gate: pure decisions from numbers and the project's thresholds, with reasons in words."""

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist

from lifecycle.project import (
    GateSpec,
    Metric,
    MonitoringSpec,
    RetrainingSpec,
    allowed_loss,
    greater_is_better,
)
from lifecycle.project.checks import letters
from lifecycle.quality.findings import measure_words, one_line, without_part
from lifecycle.records import (
    CheckReport,
    ColumnDrift,
    Decision,
    DriftReport,
    Estimate,
    EstimatedQuality,
    Evaluated,
    Evaluation,
    Gain,
    Gap,
    LabelDrift,
    Noise,
)

Verdict = tuple[bool, str]
"""Whether one condition holds, and the sentence that says so."""

MAX_COLUMNS_NAMED = 5
"""Drifted columns a reason names; the report lists all."""

NO_TRIGGER = "is no reason to retrain here (retraining.triggers)"
NO_CHAMPION = "No champion yet: there is nothing to compare with."


def decide(
    evaluated: Evaluated,
    checks: CheckReport,
    gate: GateSpec,
    metric: Metric,
    accept: Mapping[str, str] | None = None,
    noise: Noise | None = None,
    without_champion: str = NO_CHAMPION,
) -> Decision:
    """Compare a challenger with the floor, the baseline, the champion if any, and the checks.

    All evaluations must come from the same holdout: a gain measured on different rows is no gain.
    A metric that is not a number passes nothing. A gain counts as far as it is beyond chance.

    Args:
        evaluated: the challenger as `candidate`, with its gains measured in pairs.
        accept: `project.checks.accept`: check → why its failure does not block.
        noise: what other seeds do to the metric, if that was measured.
        without_champion: why there is no champion to compare with, as a sentence.

    Raises:
        ValueError: the evaluations come from different holdouts, or lack the metric.
    """
    challenger, champion = evaluated.candidate, evaluated.champion
    for other in (evaluated.baseline, champion):
        if other is not None and other.holdout != challenger.holdout:
            raise ValueError(
                f"{challenger.subject} and {other.subject} were evaluated on different holdouts "
                f"({challenger.holdout[:12]} and {other.holdout[:12]}): "
                "evaluate both on the same one before deciding"
            )
    score = _estimate(challenger, metric)
    verdicts = [
        *_floor(score, gate.floor, metric),
        _gain(evaluated, evaluated.baseline, evaluated.gain_over_baseline, gate, metric),
    ]
    gain = evaluated.gain_over_champion
    if champion is None or gain is None:
        verdicts.append((True, without_champion))
    else:
        verdicts.append(_gain(evaluated, champion, gain, gate, metric))
        verdicts += _above_noise(gain.value, noise, gate.gain_over_noise, metric)
    verdicts += _fairness(challenger.gaps, gate, metric)
    verdicts += _checks(checks, gate.require_checks, accept or {})
    verdicts += _warnings(challenger)
    verdicts.sort(key=lambda verdict: verdict[0])  # what blocks is read first
    return Decision(
        gate="promotion",
        passed=all(holds for holds, _ in verdicts),
        reasons=tuple(sentence for _, sentence in verdicts),
        blocking=tuple(sentence for holds, sentence in verdicts if not holds),
    )


def compared(gain: Gain, subject: str, required: float) -> Verdict:
    """Decide whether a gain is as large as required, beyond chance, and describe it.

    If nothing is required (0), a tie is no gain. If a loss is allowed (`required` below 0), it must
    be no larger, beyond chance.
    """
    if math.isnan(gain.value):
        return False, f"Not to be compared with {subject}"
    if gain.least >= required and (gain.least > 0 or required < 0):
        words = "Better than" if gain.least > 0 else "No worse than allowed beside"
        return True, f"{words} {subject}, beyond chance"
    if gain.high < 0:
        return False, f"Worse than {subject}, beyond chance"
    if gain.least <= 0:
        return False, f"No difference to {subject} beyond chance"
    return False, f"Better than {subject}, but not by as much as asked for"


def decide_retraining(
    drift: Sequence[DriftReport],
    quality: Sequence[Evaluation | None],
    released: Evaluation,
    spec: MonitoringSpec,
    retraining: RetrainingSpec,
    metric: Metric,
    estimates: Sequence[EstimatedQuality | None] = (),
) -> Decision:
    """Ask for retraining if enough of the latest windows violate, the newest among them.

    A window violates by drift (too large a share of features, the predictions, or the labels) or by
    quality (the metric lost too much since release), as far as `retraining.triggers` names them.
    The rule "n of the last m and the newest" keeps one odd window, long gone, from starting
    anything. A window with fewer than `min_rows` is passed over: it counts as neither.

    Args:
        drift: one report per window, oldest first.
        quality: the metrics of the same windows; None where no labels have arrived.
        released: the evaluation the model was released with.
        estimates: of the metric in the same windows; they count where `retraining.triggers` has
            `estimate` and the quality of a window is not measured yet.

    Returns:
        A decision; passed means that there is nothing to do.

    Raises:
        ValueError: `drift` and `quality` differ in length, or `released` lacks the metric.
    """
    if not drift:
        return Decision(gate="retraining", passed=True, reasons=("No window has arrived yet.",))
    reasons: list[str] = []
    violating: list[set[str]] = []
    estimated = [*estimates] if "estimate" in retraining.triggers else []
    estimated = estimated or [None] * len(drift)
    windows = list(zip(drift, quality, estimated, strict=True))[-spec.windows :]
    for report, measured, expected in windows:
        if report.current_rows < spec.min_rows:
            reasons.append(f"Window {report.window}: {_few(report.current_rows, spec)}.")
            continue
        moved, moved_words = _drift_words(report, spec)
        worse, worse_words = _quality_words(measured, released, spec, metric, report.alpha)
        causes = {name for name, holds in (("drift", moved), ("quality", worse)) if holds}
        if expected is not None and (measured is None or measured.rows < spec.min_rows):
            falls, words = _estimate_words(expected, released, spec, metric)
            worse_words += f" {words}"
            causes |= {"estimate"} if falls else set()
        violating.append(causes & set(retraining.triggers))
        muted = sorted(causes - set(retraining.triggers))
        note = f" {' and '.join(muted).capitalize()} alone {NO_TRIGGER}." if muted else ""
        reasons.append(f"Window {report.window}: {moved_words} {worse_words}{note}")
    needed, verdict = _retraining_words(violating, spec)
    return Decision(
        gate="retraining",
        passed=not needed,
        reasons=(*reasons, verdict),
        blocking=tuple(sorted(set().union(*violating))) if needed else (),
    )


def render(decision: Decision) -> str:
    """A decision as Markdown."""
    if decision.gate == "retraining":
        verdict = "nothing to do" if decision.passed else "retraining is asked for"
    else:
        verdict = "passed" if decision.passed else "not passed"
    reasons = "\n".join(f"- {reason.replace('<', '&lt;')}" for reason in decision.reasons)
    return f"## Gate `{decision.gate}`: {verdict}\n\n{reasons}\n"


def _estimate(evaluation: Evaluation, metric: Metric) -> Estimate:
    if metric not in evaluation.metrics:
        names = ", ".join(evaluation.metrics)
        raise ValueError(f"the evaluation of {evaluation.subject} has no {metric}, only {names}")
    return evaluation.metrics[metric]


def _words(estimate: Estimate) -> str:
    """A value with its confidence interval."""
    return f"{estimate.value:.4g} (95 % CI {estimate.low:.4g} to {estimate.high:.4g})"


def _better_by(value: float, than: float, metric: Metric) -> float:
    """Return the advantage of `value`, in the metric's own direction; negative is worse."""
    return value - than if greater_is_better(metric) else than - value


def _floor(score: Estimate, floor: float | None, metric: Metric) -> list[Verdict]:
    if floor is None:
        return []
    margin = _better_by(score.value, floor, metric)
    limit = "at least" if greater_is_better(metric) else "at most"
    holds = margin >= 0  # False for a value that is not a number
    sentence = f"{metric} {_words(score)}; gate.floor asks for {limit} {floor:.4g}"
    if holds:
        return [(True, f"Floor held: {sentence}.")]
    missing = "" if math.isnan(margin) else f", {-margin:.4g} short"
    return [(False, f"Floor missed: {sentence}{missing}.")]


def _gain(
    evaluated: Evaluated, other: Evaluation, gain: Gain, gate: GateSpec, metric: Metric
) -> Verdict:
    """Better than another model by more than is required and chance allows."""
    rival = "baseline" if other is evaluated.baseline else "champion"
    key = f"gate.gain_over_{rival}"
    required = gate.gain_over_baseline if rival == "baseline" else gate.gain_over_champion
    holds, standing = compared(gain, other.subject, required)
    requirement = "more than 0" if required == 0 else f"at least {required:.4g}"
    keeps = " A tie keeps the champion." if rival == "champion" and gain.value == 0 else ""
    return holds, (
        f"{standing}: {metric} {_words(_estimate(evaluated.candidate, metric))} against "
        f"{_words(_estimate(other, metric))}. Measured in pairs the gain is {gain.value:.4g}, with "
        f"{gain.confidence * 100:g} % confidence at least {gain.least:.4g}; {key} asks for "
        f"{requirement}.{keeps}"
    )


def _above_noise(gain: float, noise: Noise | None, times: float, metric: Metric) -> list[Verdict]:
    """Judge whether a gain is more than another seed would have brought."""
    if noise is None:
        if not times:
            return []
        requirement = "gate.gain_over_noise asks for the noise over seeds, which was not measured"
        return [(False, f"Noise unknown: {requirement}: train with `gate.seeds` or `--seeds`.")]
    message = (
        f"over {len(noise.values)} seeds {metric} varies with a standard deviation of "
        f"{noise.deviation:.4g}; the gain is {_direction(gain)}"
    )
    if not times:
        inside = "within" if abs(gain) <= 2 * noise.deviation else "beyond"
        return [(True, f"Noise: {message}, {inside} twice the noise.")]
    holds = gain > times * noise.deviation
    verdict = "More than noise" if holds else "Not more than noise"
    return [(holds, f"{verdict}: {message}; gate.gain_over_noise asks for more than {times:g} ×.")]


def _fairness(gaps: Sequence[Gap], gate: GateSpec, metric: Metric) -> list[Verdict]:
    """Judge whether the gaps between protected groups exceed their limits, beyond chance."""
    verdicts: list[Verdict] = []
    for attribute, limits in gate.max_fairness_gap.items():
        for measure, limit in limits.items():
            key = f"gate.max_fairness_gap.{attribute}.{measure}"
            words = measure_words(measure, metric)
            gap = next(
                (g for g in gaps if g.attribute == attribute and g.measure.startswith(words)), None
            )
            if gap is None or gap.low is None or gap.high is None:
                reason = "it has fewer than two groups of evaluation.min_rows rows"
                verdicts.append((False, f"Fairness unknown: {key}: {attribute}: {reason}."))
                continue
            verdicts.append(_gap(gap, gap.low, gap.high, limit, key))
    return verdicts


def _gap(gap: Gap, low: float, high: float, limit: float, key: str) -> Verdict:
    sentence = (
        f"{gap.measure} of {gap.attribute} is {gap.value:.4g} (95 % CI {low:.4g} to {high:.4g}), "
        f"lowest for {gap.lowest}, highest for {gap.highest}; {key} allows {limit:.4g}"
    )
    if low > limit:
        return False, f"Unfair beyond chance: {sentence}."
    if high <= limit:
        return True, f"Fairness kept: {sentence}."
    side = "above" if gap.value > limit else "within"
    return True, (
        f"Fairness not certain: {sentence}; the gap is {side} the limit, and these rows cannot "
        "tell it from the limit, so it does not block."
    )


def _direction(gain: float) -> str:
    if gain == 0:
        return "equal"
    return f"{abs(gain):.4g} {'better' if gain > 0 else 'worse'}"


def _warnings(challenger: Evaluation) -> list[Verdict]:
    """Return the warnings about the model, which block nothing."""
    return [(True, f"Warning: {warning}") for warning in challenger.warnings]


def _checks(checks: CheckReport, required: bool, accept: Mapping[str, str]) -> list[Verdict]:
    verdicts: list[Verdict] = []
    for name, finding in checks.failed.items():
        reason = next(
            (reason for key, reason in accept.items() if letters(key) == letters(name)), None
        )
        if reason is not None:
            verdicts.append((True, f"Check {name} failed: {finding} Accepted: {one_line(reason)}"))
        elif required:
            plain = without_part(name)
            way_out = f'mend it, or say why it is fine: checks: {{accept: {{"{plain}": "…"}}}}'
            verdicts.append((False, f"Check {name} failed: {finding} Way out: {way_out}."))
        else:
            verdicts.append(
                (True, f"Check {name} failed, which gate.require_checks lets pass: {finding}")
            )
    verdicts += [(True, f"Check {name} warns: {text}") for name, text in checks.warned.items()]
    counts = f"{len(checks.passed)} passed, {len(checks.failed)} failed"
    not_run = f", {len(checks.not_run)} did not run and count as neither" if checks.not_run else ""
    if not checks.ran:
        reason = "; ".join(dict.fromkeys(checks.not_run.values()))
        suffix = f" ({reason})" if reason else ""
        if required:
            return [(False, f"No check ran{suffix}, and gate.require_checks asks for them.")]
        return [(True, f"No check ran{suffix}, which gate.require_checks lets pass.")]
    return [*verdicts, (True, f"Checks: {counts}{not_run}.")]


def _few(rows: int, spec: MonitoringSpec) -> str:
    return f"too few rows to tell: {rows:,}, and monitoring.min_rows asks for {spec.min_rows:,}"


def _drift_words(report: DriftReport, spec: MonitoringSpec) -> tuple[bool, str]:
    """Judge whether a window drifted too far, and name what drifted."""
    drifted = sorted(report.drifted, key=lambda column: -column.statistic / column.limit)
    share = len(drifted) / len(report.features) if report.features else 0.0
    names = ", ".join(
        f"{column.column} ({_distance(column)})" for column in drifted[:MAX_COLUMNS_NAMED]
    )
    more = (
        f" and {len(drifted) - MAX_COLUMNS_NAMED} more" if len(drifted) > MAX_COLUMNS_NAMED else ""
    )
    allowed = spec.drift.max_drifted_share
    too_many = share > allowed
    predictions, labels = report.predictions, report.labels
    sentence = (
        f"{len(drifted)} of {len(report.features)} features drifted"
        f"{f': {names}{more}' if drifted else ''} "
        f"({share:.0%}, {'above' if too_many else 'within'} the {allowed:.0%} allowed); "
        f"predictions {_state(predictions)} ({_distance(predictions)})"
        f"{'' if labels is None else f'; {_label_words(labels)}'}."
    )
    raised = sum(column.chance > column.threshold for column in report.features)
    if raised:
        sentence += (
            f" Chance alone makes such distances of {report.reference_rows:,} and "
            f"{report.current_rows:,} rows that the limits of {raised} features are raised."
        )
    label_drifted = labels is not None and labels.rows >= spec.min_rows and labels.drifted
    return too_many or predictions.drifted or label_drifted, sentence


def _state(column: ColumnDrift) -> str:
    return "drifted" if column.drifted else "kept"


def _distance(column: ColumnDrift) -> str:
    """A distance with its limit, and what set it."""
    source = " by chance" if column.chance > column.threshold else ""
    return f"{column.test} {column.statistic:.3g}, limit {column.limit:.3g}{source}"


def _label_words(labels: LabelDrift) -> str:
    change = f"{labels.rows:,} labels"
    if labels.means is not None:
        change = f"mean {labels.means[0]:.4g}, now {labels.means[1]:.4g} of {labels.rows:,} labels"
    return f"{labels.column} {_state(labels)} ({change}; {_distance(labels)})"


def _quality_words(
    measured: Evaluation | None,
    released: Evaluation,
    spec: MonitoringSpec,
    metric: Metric,
    alpha: float,
) -> tuple[bool, str]:
    """Judge whether the metric lost more since release than is allowed or due to chance."""
    then = _estimate(released, metric)
    if measured is None:
        return False, "No labels to measure quality with yet."
    if measured.rows < spec.min_rows:
        return False, f"Quality: {_few(measured.rows, spec)}, labelled."
    if metric not in measured.metrics:
        return False, _unmeasured(measured, released, metric)
    now = measured.metrics[metric]
    loss = -_better_by(now.value, then.value, metric)
    allowed, chance = _losses(now, then, spec, metric, alpha)
    limit = max(allowed, chance)
    worse = not loss <= limit  # a value that is not a number counts as lost
    source = f"max_quality_loss: {spec.max_quality_loss}"
    if chance > allowed:
        source = f"what chance makes of {released.rows:,} and {measured.rows:,} rows"
    change = "cannot be compared" if math.isnan(loss) else f"is {_direction(-loss)}"
    return worse, (
        f"{metric} {_words(now)} on {measured.rows:,} labelled rows against {_words(then)} at "
        f"release {change}, {'above' if worse else 'within'} the loss of {limit:.4g} allowed "
        f"({source})."
    )


def _estimate_words(
    estimated: EstimatedQuality, released: Evaluation, spec: MonitoringSpec, metric: Metric
) -> tuple[bool, str]:
    """Judge whether all of an estimate's interval is worse than the loss that is allowed."""
    if estimated.grade.withdrawn:
        return False, f"The estimate of {metric} is withdrawn: {estimated.grade.withdrawn}."
    then, now = _estimate(released, metric), estimated.estimate
    allowed = allowed_loss(spec.max_quality_loss, then.value)
    best = now.high if greater_is_better(metric) else now.low
    falls = -_better_by(best, then.value, metric) > allowed
    return falls, (
        f"{metric} is estimated at {_words(now)} against {_words(then)} at release: "
        f"{'all' if falls else 'not all'} of that is beyond the loss of {allowed:.4g} allowed "
        f"(max_quality_loss: {spec.max_quality_loss})."
    )


def quality_limit(
    measured: Evaluation,
    released: Evaluation,
    spec: MonitoringSpec,
    metric: Metric,
    alpha: float,
) -> float | None:
    """Value of the metric from which a window's quality is worse than at release.

    None where it is not judged: the metric has no value, or there are too few labels.

    Args:
        alpha: in how many windows an unchanged model may be beyond it.
    """
    if metric not in measured.metrics or measured.rows < spec.min_rows:
        return None
    now, then = measured.metrics[metric], _estimate(released, metric)
    loss = max(_losses(now, then, spec, metric, alpha))
    return then.value - loss if greater_is_better(metric) else then.value + loss


def is_worse(value: float, limit: float, metric: Metric) -> bool:
    """Judge whether a metric is beyond its limit; a value that is not a number counts as lost."""
    return not _better_by(value, limit, metric) >= 0


def _losses(
    now: Estimate, then: Estimate, spec: MonitoringSpec, metric: Metric, alpha: float
) -> tuple[float, float]:
    """Return the loss that is declared, and the one that chance exceeds in `alpha` of windows.

    The latter is the limit of a difference of two independent estimates, computed from their
    intervals (Zou and Donner, Statistics in Medicine 27, 2008), widened from 97.5 % on one side.
    """
    worst_now, best_then = (
        (now.high - now.value, then.value - then.low)
        if greater_is_better(metric)
        else (now.value - now.low, then.high - then.value)
    )
    normal = NormalDist()
    widened = normal.inv_cdf(1 - alpha) / normal.inv_cdf(0.975)
    allowed = allowed_loss(spec.max_quality_loss, then.value)
    return allowed, widened * math.hypot(worst_now, best_then)


def _unmeasured(measured: Evaluation, released: Evaluation, metric: Metric) -> str:
    """Name the other metrics if these labels do not define the deciding one."""
    others = ", ".join(
        f"{name} {_words(estimate)} against {released.metrics[name].value:.4g} at release"
        for name, estimate in measured.metrics.items()
        if name in released.metrics
    )
    return (
        f"{metric} has no value on the {measured.rows:,} labelled rows, which are too few or all "
        f"of one class{f'; {others}' if others else ''}."
    )


def _retraining_words(violating: list[set[str]], spec: MonitoringSpec) -> tuple[bool, str]:
    """Judge whether enough windows violate, the newest among them.

    Args:
        violating: the causes of each window with enough rows to judge, oldest first.
    """
    if not violating:
        return False, "Nothing to do: no window has rows enough to tell."
    count = sum(bool(causes) for causes in violating)
    rule = f"{spec.violations} needed, the newest among them"
    sentence = f"{count} of the last {len(violating)} windows violate{'s' if count == 1 else ''}"
    if len(violating) == 1:
        sentence = f"the window {'violates' if count else 'does not violate'}"
    if count >= spec.violations and violating[-1]:
        causes = sorted(set().union(*violating))
        reason = ", which the project says is reason enough (retraining.triggers)"
        by = f"{' and '.join(causes)}{reason if causes == ['drift'] else ''}"
        return True, f"Retraining is asked for: {sentence} ({rule}) by {by}."
    old = " The newest does not." if count and not violating[-1] else ""
    return False, f"Nothing to do: {sentence} ({rule}).{old}"
