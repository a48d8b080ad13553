"""The evaluation report: how good a model is, where, for whom and why, as one HTML page."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lifecycle.project import DecisionSpec, GateSpec, Project, greater_is_better
from lifecycle.quality.gates import compared
from lifecycle.quality.summary import EVALUATION, spell
from lifecycle.records import Bundle, Evaluated, Evaluation, Gap, Slice, Split
from lifecycle.runtime.html import Cell, PageSection, Picture, Table, page, write_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CAPTIONS = {
    "roc": "True against false positives at every threshold.",
    "precision_recall": "Precision at every recall; guessing has the base rate at each.",
    "confusion": "Rows are what was, columns what was predicted.",
    "residuals": "What the model did not explain; a pattern here is something left to learn.",
    "calibration": "On the diagonal, predictions mean what they say; bins of equally many rows.",
    "learning_curve": "After each boosting round; the gap between the lines is what was memorised.",
    "shap": "How each feature moves the answers, the strongest on top; grey: category or missing.",
    "importances": "Share of the loss reduction that the splits of a feature brought in training.",
    "slices": "Grey: the whole holdout with its interval.",
}
DPI = 160
QUALITY = ("roc", "precision_recall", "confusion", "residuals", "calibration")
LEARNED = ("learning_curve", "shap", "importances")


def write_evaluation(
    project: Project,
    split: Split,
    bundle: Bundle,
    evaluated: Evaluated,
    figures: Mapping[str, "Figure"],
    folder: Path,
) -> Evaluated:
    """Write each figure as `plots/<name>.png` and everything as `evaluation.html`.

    Figures are drawn once: the page has the pictures inside, the registry takes the files.

    Args:
        figures: name → figure, as `training.assess.draw` makes them.

    Returns:
        `evaluated` with the paths.
    """
    plots = {name: folder / "plots" / f"{name}.png" for name in figures}
    (folder / "plots").mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        scratch = plots[name].with_name(f".{name}.{os.getpid()}.png")
        figure.savefig(scratch, dpi=DPI)
        scratch.replace(plots[name])
    html = evaluation_page(project, split, bundle, evaluated, plots)
    report = write_page(html, folder / EVALUATION)
    return evaluated.model_copy(update={"report": report, "plots": tuple(plots.values())})


def evaluation_page(
    project: Project,
    split: Split,
    bundle: Bundle,
    evaluated: Evaluated,
    figures: Mapping[str, Path],
) -> str:
    """A self-contained page; the same arguments give the same bytes.

    Args:
        figures: name → PNG file.
    """
    candidate = evaluated.candidate
    sections = [
        _metrics(project, evaluated),
        *([PageSection("Warnings", points=candidate.warnings)] if candidate.warnings else []),
        PageSection("Quality", text=_calibration(candidate), pictures=_pictures(figures, QUALITY)),
        *_decision(project, candidate),
        *_slices(project, candidate, figures),
        *_fairness(project, candidate),
        *_learned(project, bundle, figures),
        _origin(split, bundle, candidate),
    ]
    lead = (
        f"Candidate {bundle.digest[:12]} for {project.target}, task {project.task}, "
        f"on {candidate.rows:,} rows of the holdout, which neither training nor tuning saw."
    )
    return page(
        f"{project.name}: evaluation",
        sections,
        lead=lead,
        verdict=_verdict(evaluated, project.gate),
    )


def _verdict(evaluated: Evaluated, gate: GateSpec) -> Cell | None:
    """Compare the candidate with the champion, if there is one, in the gate's words."""
    gain, champion = evaluated.gain_over_champion, evaluated.champion
    if gain is None or champion is None:
        return None
    holds, words = compared(gain, champion.subject, gate.gain_over_champion)
    return Cell(f"{words}.", "good" if holds else "bad" if gain.high < 0 else "warn")


def _metrics(project: Project, evaluated: Evaluated) -> PageSection:
    subjects = [e for e in (evaluated.candidate, evaluated.champion, evaluated.baseline) if e]
    rows = tuple(
        (
            f"{name} (decides)" if name == project.metric else name,
            "higher" if greater_is_better(name) else "lower",
            *(spell(e.metrics[name]) if name in e.metrics else "–" for e in subjects),
        )
        for name in evaluated.candidate.metrics
    )
    text = [f"With {evaluated.candidate.method}."] if evaluated.candidate.method else []
    if gain := evaluated.gain_over_champion:
        text.append(
            f"Gain in {project.metric} over the champion, measured in pairs on the same rows: "
            f"{gain.value:.4f}, with {gain.confidence:.0%} confidence at least {gain.least:.4f}; "
            "above 0 the candidate is better."
        )
    header = ("metric", "better", *(e.subject for e in subjects))
    return PageSection("Metrics", text=tuple(text), table=Table(header, rows))


def _calibration(candidate: Evaluation) -> tuple[str, ...]:
    if candidate.calibration_error is None:
        return ()
    return (
        f"Expected calibration error {candidate.calibration_error:.4f}: by so much predicted "
        "probabilities are off on average, in 10 bins of equally many rows.",
    )


def _decision(project: Project, candidate: Evaluation) -> Iterator[PageSection]:
    """Build the section about the threshold of a binary model."""
    measured, threshold = candidate.at_threshold, candidate.threshold
    if not measured or threshold is None:
        return
    text = [
        f"A row counts as positive from a probability of {threshold:.4g} on: "
        f"{threshold_source(project.decision)}."
    ]
    costs = project.decision.costs if project.decision else None
    positive = measured["share of positives"].value
    if costs is not None:
        text.append(
            f"Calling no row positive costs {positive * costs.false_negative:.4g} per row, calling "
            f"every row positive {(1 - positive) * costs.false_positive:.4g}."
        )
    rows = tuple((name, spell(estimate)) for name, estimate in measured.items())
    yield PageSection(
        "Decision", text=tuple(text), table=Table(("at the threshold", "value"), rows)
    )


def threshold_source(decision: DecisionSpec | None) -> str:
    """Describe the origin of a model's threshold."""
    if decision is None:
        return "the project declares no `decision`, and 0.5 is what is usual"
    if decision.threshold is not None:
        return "it is given as decision.threshold"
    if decision.rate is not None:
        return f"it calls {decision.rate:.4g} of the validation part positive (decision.rate)"
    assert decision.costs is not None  # noqa: S101 - exactly one of the three is given
    return (
        f"it is cheapest where a false positive costs {decision.costs.false_positive:g} and a "
        f"false negative {decision.costs.false_negative:g} (decision.costs)"
    )


def _slices(
    project: Project, candidate: Evaluation, figures: Mapping[str, Path]
) -> Iterator[PageSection]:
    if not candidate.slices:
        return
    overall = candidate.metrics[project.metric]
    sign = 1 if greater_is_better(project.metric) else -1

    def cell(part: Slice) -> Cell:
        estimate = part.estimate
        if estimate is None:
            return Cell(f"not measured: {part.note}")
        best, worst = sorted((sign * estimate.low, sign * estimate.high), reverse=True)
        if best < sign * overall.value:
            return Cell("worse", "bad")
        return Cell("better", "good") if worst > sign * overall.value else Cell("within chance")

    rows = tuple(
        (s.by, s.value, f"{s.rows:,}", spell(s.estimate) if s.estimate else "–", cell(s))
        for s in candidate.slices
    )
    header = ("slice", "value", "rows", project.metric, "against the whole")
    yield PageSection(
        "Slices",
        text=(
            "Worse or better: the slice's whole interval lies on one side of the value on the "
            "whole holdout. Of many slices, one in twenty does so by chance.",
        ),
        table=Table(header, rows),
        pictures=_pictures(figures, ("slices",)),
    )


def _fairness(project: Project, candidate: Evaluation) -> Iterator[PageSection]:
    if not project.protected:
        return
    text = [f"Protected attributes: {', '.join(project.protected)}."]
    if project.task == "binary":
        text.append(
            "Demographic parity difference: of the share predicted positive. Equal opportunity "
            "difference: of the true positive rate. Equalized odds difference: of the true or the "
            "false positive rate, whichever is larger. All as fairlearn defines them; 0 means that "
            "all groups are treated alike."
        )
    text.append(f"Groups with fewer than {project.evaluation.min_rows} rows are left out.")
    if candidate.gaps:
        text.append(
            "The 95 % intervals hold for all pairs of groups at once: one that begins at 0 is of "
            "a gap that chance could make."
        )
    compared = {gap.attribute for gap in candidate.gaps}
    lacking = [name for name in project.protected if name not in compared]
    if lacking:
        text.append(f"Nothing to compare for {', '.join(lacking)}: fewer than two such groups.")
    yield PageSection("Fairness", text=tuple(text), table=_gaps(candidate.gaps))


def _gaps(gaps: tuple[Gap, ...]) -> Table | None:
    if not gaps:
        return None
    header = ("attribute", "measure", "difference", "95 % interval", "lowest", "highest")
    return Table(
        header,
        tuple(
            (
                gap.attribute,
                gap.measure,
                f"{gap.value:.4f}",
                "–" if gap.low is None else f"{gap.low:.4f} to {gap.high:.4f}",
                gap.lowest,
                gap.highest,
            )
            for gap in gaps
        ),
    )


def _learned(project: Project, bundle: Bundle, figures: Mapping[str, Path]) -> list[PageSection]:
    """Importances, learning curve and SHAP values, as far as the model can say."""
    pictures = _pictures(figures, LEARNED)
    if not pictures:
        return []
    text = (
        "The learning curve is that of a fit on the train part, which the validation part stopped. "
        f"The model itself was then fitted on both parts, with the {bundle.rounds} rounds kept.",
    )
    refitted = project.training.refits and bundle.curve
    return [PageSection("What was learned", text=text if refitted else (), pictures=pictures)]


def _origin(split: Split, bundle: Bundle, candidate: Evaluation) -> PageSection:
    return PageSection(
        "Origin",
        points=(
            f"Bundle {bundle.digest}" + (f", {bundle.rounds} rounds" if bundle.curve else ""),
            f"Holdout {split.holdout.uri} version {split.holdout.version}, digest "
            f"{candidate.holdout}",
            f"Split: {split.rule}",
        ),
    )


def _pictures(figures: Mapping[str, Path], names: tuple[str, ...]) -> tuple[Picture, ...]:
    return tuple(Picture(figures[name], CAPTIONS[name]) for name in names if name in figures)
