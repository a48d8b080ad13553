"""The model card as a record of claims, after Mitchell et al., "Model Cards for Model Reporting"
(2019).

What the project declares is kept apart from what was measured: the latter is compared with what
the store has whenever somebody relies on it (`false_claims`), so that a card cannot say what is
not so. `card_page` makes Markdown and HTML of a card.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from lifecycle.project import Project, Scalar
from lifecycle.quality.evaluation_page import threshold_source
from lifecycle.quality.findings import measure_words
from lifecycle.records import (
    DatasetVersion,
    Decision,
    Estimate,
    Evaluation,
    Gap,
    Identity,
    ModelVersion,
    Noise,
    Record,
    Slice,
    Split,
    Trained,
)
from lifecycle.runtime.identity import PACKAGE

LICENCE_FILES = ("LICENCE", "LICENSE")
"""Names, without ending, of a file beside the project file whose first line names the licence."""
REMEASURED = 1e-3
"""Relative difference up to which a metric that is measured again is the one that was claimed: a
thread more adds up a sum in another order."""
MEASURED = "measured"
PLACES = {
    "declared": "the project file",
    "measured.digest": "the registered bundle",
    "measured.rounds": "the registered bundle",
    "measured.identity": "the tags of the MLflow run",
    "measured.parts": "the lake",
    "measured.contract": "the lake",
    "measured.calibration_error": "the MLflow run",
    "measured.metrics": "the MLflow run",
    "measured.baseline_metrics": "the MLflow run",
    "measured.threshold": "the MLflow run",
    "model": "the registry",
}
"""Claims that begin so → the store they are compared with; all others: `RECORD_PLACE`."""
RECORD_PLACE = "the record of the training"


class PartClaim(Record):
    """A part of the data, as the lake has it."""

    table: str
    version: int
    rows: int
    digest: str


class Declared(Record):
    """Claims that the project file makes."""

    task: str
    target: str
    purpose: str
    predicts: str
    """The answer of the model, in words."""
    trainer: str
    owner: str
    """Who answers for the data; empty if the contract does not say."""
    licence: str
    """First line of the licence beside the project file; empty without one."""
    metric: str
    """The metric that decides."""
    floor: float | None
    source: str
    inputs: tuple[str, ...]
    hook: str | None
    leakage: tuple[str, ...]
    protected: tuple[str, ...]
    ignored: tuple[str, ...]
    min_rows: int
    """Slices and groups with fewer rows are not measured."""
    fairness_limits: dict[str, dict[str, float]]
    """Protected attribute → measure → how far its groups may lie apart."""
    accepted_checks: dict[str, str]
    """Failed check → why it may fail."""
    learned_from: str
    """The parts that the model learned from, in words."""
    limits: tuple[str, ...]
    """What a reader must not expect of the model, in sentences."""


class Measured(Record):
    """Claims that the store can prove or disprove."""

    digest: str
    """Of the bundle."""
    rounds: int
    identity: Identity
    contract: str
    """Version of the contract that the data were ingested under; empty if the lake has none."""
    origin: str = ""
    """Environment and version that it was promoted from; empty if it was trained here."""
    origin_rows: int | None = None
    """Rows that it learned from there."""
    parts: dict[str, PartClaim]
    withheld: int
    rule: str
    holdout_rows: int
    method: str
    metrics: dict[str, Estimate]
    baseline: str
    baseline_metrics: dict[str, Estimate]
    threshold: float | None
    at_threshold: dict[str, Estimate]
    calibration_error: float | None
    noise: Noise | None
    slices: dict[str, Slice]
    gaps: dict[str, Gap]
    """Attribute and measure → gap."""
    warnings: tuple[str, ...]
    passed_checks: tuple[str, ...]
    failed_checks: dict[str, str]
    warned_checks: dict[str, str]
    checks_not_run: dict[str, str]
    checked_rows: int
    decision: Decision


class ModelCard(Record):
    """Everything that is claimed of a model version."""

    format: Literal[1] = 1
    model: ModelVersion
    declared: Declared
    measured: Measured


class FalseClaim(Record):
    """A claim of a card that is not so."""

    claim: str
    """Its place in the card, such as `measured.metrics.roc_auc.value`."""
    claimed: Scalar | None
    """None if the card leaves out what the store has."""
    actual: Scalar | None = Field(default=None)
    """None if the store has no such thing."""
    place: str
    """The store that says otherwise."""

    def __str__(self) -> str:
        return (
            f"the card claims {self.claim} = {_spell(self.claimed)}; "
            f"{self.place} has {_spell(self.actual)}"
        )


def make_card(project: Project, trained: Trained, rounds: int, contract: str) -> ModelCard:
    """The card of a model version from its project and the record of its training.

    Args:
        rounds: of its bundle.
        contract: version of the contract that its data were ingested under.
    """
    return ModelCard(
        model=trained.model,
        declared=declared_claims(project),
        measured=measured_claims(trained, rounds, contract),
    )


def declared_claims(project: Project) -> Declared:
    """Claims that the project file makes of its models."""
    gate = project.gate
    return Declared(
        task=project.task,
        target=project.target,
        purpose=" ".join(project.description.split()),
        predicts=_predicts(project),
        trainer=project.training.trainer,
        owner=project.contract.owner,
        licence=_licence(project),
        metric=project.metric,
        floor=gate.floor,
        source=project.source.place,
        inputs=project.input_columns,
        hook=project.features,
        leakage=project.leakage,
        protected=project.protected,
        ignored=project.ignore,
        min_rows=project.evaluation.min_rows,
        fairness_limits={
            attribute: {str(measure): limit for measure, limit in limits.items()}
            for attribute, limits in gate.max_fairness_gap.items()
        },
        accepted_checks=dict(project.checks.accept),
        learned_from=_learned_from(project),
        limits=tuple(_limits(project)),
    )


def measured_claims(trained: Trained, rounds: int, contract: str) -> Measured:
    """Claims that the record of a training makes of its model; see `make_card`."""
    evaluation, baseline, checks = trained.evaluation, trained.baseline, trained.checks
    origin = trained.origin
    return Measured(
        digest=trained.model.digest,
        rounds=rounds,
        identity=trained.identity,
        contract=contract,
        origin=str(origin) if origin else "",
        origin_rows=origin.split.train.rows if origin else None,
        parts=_parts(trained.split),
        withheld=trained.split.withheld,
        rule=trained.split.rule,
        holdout_rows=evaluation.rows,
        method=evaluation.method,
        metrics=dict(evaluation.metrics),
        baseline=baseline.subject,
        baseline_metrics=dict(baseline.metrics),
        threshold=evaluation.threshold,
        at_threshold=evaluation.at_threshold,
        calibration_error=evaluation.calibration_error,
        noise=trained.noise,
        slices={f"{part.by}={part.value}": part for part in evaluation.slices},
        gaps={gap_key(gap): gap for gap in evaluation.gaps},
        warnings=evaluation.warnings,
        passed_checks=checks.passed,
        failed_checks=checks.failed,
        warned_checks=checks.warned,
        checks_not_run=checks.not_run,
        checked_rows=checks.sampled_rows,
        decision=trained.decision,
    )


def false_claims(claimed: Record, actual: Record, prefix: str) -> list[FalseClaim]:
    """Every claim in which two records of one kind differ, also those that one leaves out.

    Args:
        claimed: the part of a card.
        actual: the same, made from what the store has.
        prefix: the name of that part in the card.
    """
    claimed_values, actual_values = dict(claims(claimed, prefix)), dict(claims(actual, prefix))
    return [
        FalseClaim(
            claim=name,
            claimed=claimed_values.get(name),
            actual=actual_values.get(name),
            place=place_of(name),
        )
        for name in dict.fromkeys((*claimed_values, *actual_values))
        if not (
            name in claimed_values
            and name in actual_values
            and _equal(claimed_values[name], actual_values[name])
        )
    ]


def remeasured_claims(
    card: ModelCard, evaluation: Evaluation, project: Project
) -> list[FalseClaim]:
    """Claims on quality and fairness that a new measurement on the same holdout disproves.

    What was not measured again, or not on the same rows (some were erased since), is not judged.
    """
    measured = card.measured
    if evaluation.rows != measured.holdout_rows:
        return []
    same_groups = card.declared.min_rows == project.evaluation.min_rows
    estimates = {f"metrics.{name}": estimate for name, estimate in evaluation.metrics.items()}
    claimed = {f"metrics.{name}": estimate for name, estimate in measured.metrics.items()}
    results = [
        (name, claimed[name].value, estimates[name].value) for name in estimates if name in claimed
    ]
    gaps = {gap_key(gap): gap for gap in evaluation.gaps if same_groups}
    results += [
        (f"gaps.{name}", measured.gaps[name].value, gap.value)
        for name, gap in gaps.items()
        if name in measured.gaps
    ]
    return [
        FalseClaim(
            claim=f"{MEASURED}.{name}.value",
            claimed=value,
            actual=now,
            place="the model on its holdout, measured again,",
        )
        for name, value, now in results
        if not math.isclose(value, now, rel_tol=REMEASURED, abs_tol=REMEASURED / 10)
        and not (math.isnan(value) and math.isnan(now))
    ]


def claims(value: object, name: str) -> Iterator[tuple[str, Scalar | None]]:
    """Each single claim of a record by its place, such as `measured.metrics.roc_auc.value`."""
    if isinstance(value, Record):
        value = {field: getattr(value, field) for field in type(value).model_fields}
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield from claims(entry, f"{name}.{key}")
    elif isinstance(value, tuple):
        for at, entry in enumerate(value):
            yield from claims(entry, f"{name}.{at + 1}")
    else:
        scalar: Any = value
        yield name, scalar


def place_of(claim: str) -> str:
    """The store that a claim is compared with, in words."""
    return next((place for start, place in PLACES.items() if claim.startswith(start)), RECORD_PLACE)


def _equal(first: object, other: object) -> bool:
    both_missing = first != first and other != other  # NaN
    return both_missing or (type(first), first) == (type(other), other)


def _spell(value: Scalar | None) -> str:
    return "nothing" if value is None else repr(value)


def _parts(split: Split) -> dict[str, PartClaim]:
    parts = {"train": split.train, "validation": split.validation, "holdout": split.holdout}
    return {name: part_of(dataset) for name, dataset in parts.items()}


def fairness_limit(
    limits: Mapping[str, Mapping[Any, float]], metric: str, gap: Gap
) -> float | None:
    """Limit of a gap; None where none is declared.

    Args:
        limits: protected attribute → measure → limit, as `gate.max_fairness_gap`.
        metric: the metric that decides.
    """
    for measure, limit in limits.get(gap.attribute, {}).items():
        if gap.measure.startswith(measure_words(measure, metric)):
            return limit
    return None


def gap_key(gap: Gap) -> str:
    """Name of a gap in a card."""
    return f"{gap.attribute}: {gap.measure}"


def part_of(dataset: DatasetVersion) -> PartClaim:
    """A version of a table as a card names it, without the machine's folders."""
    return PartClaim(
        table=dataset.uri.rstrip("/").rpartition("/")[2],
        version=dataset.version,
        rows=dataset.rows,
        digest=dataset.digest,
    )


def _licence(project: Project) -> str:
    """First line of a licence beside the project file.

    That of this package is not the model's: whoever follows the tutorial works in its checkout.
    """
    if project.folder == PACKAGE.parent.resolve():
        return ""
    for name in LICENCE_FILES:
        for file in sorted(project.folder.glob(f"{name}*")):
            try:
                lines = file.read_text(encoding="utf-8").split("\n")
            except (OSError, UnicodeDecodeError):
                continue
            if line := next((line.strip() for line in lines if line.strip()), ""):
                return line
    return ""


def _predicts(project: Project) -> str:
    target = f"`{project.target}`"
    match project.task:
        case "binary":
            positive = 1 if project.positive is None else project.positive
            answer = f"the probability that {target} is `{positive}`"
            if project.decision is not None:
                answer += (
                    ", and from that, by a threshold, the value itself "
                    f"({threshold_source(project.decision)})"
                )
        case "multiclass":
            classes = ", ".join(f"`{name}`" for name in project.classes)
            answer = f"the probability of each class of {target}: {classes}"
        case "count":
            answer = f"how large the count {target} is on average"
        case "regression":
            answer = f"the value of {target}"
    about = f" One row is about one `{project.entity}`." if project.entity else ""
    trainer = project.training.trainer
    model = "an XGBoost model" if trainer == "xgboost" else f"a model trained by `{trainer}`"
    return f"The model predicts {answer}.{about} It is {model}."


def _learned_from(project: Project) -> str:
    if project.training.own_trainer:
        return "The trainer was handed the train and the validation part."
    refit = " and the validation" if project.training.refits else ""
    return f"The model learned from the train{refit} part."


def _limits(project: Project) -> Iterator[str]:
    yield "The numbers hold for data like the holdout's; monitoring says when data have moved."
    yield (
        "A prediction is an association in the data, not a cause: changing an input does not "
        "change the outcome as the model's answer changes."
    )
    if project.time is not None:
        yield f"It knows nothing of what changed after the newest `{project.time.column}`."
    if project.task in ("regression", "count"):
        yield "Outside the range of the training data its values are not to be relied on."
    elif project.training.class_weight:
        yield (
            "It was trained with `class_weight`: its probabilities are not those of the training "
            "data's base rate."
        )
    else:
        yield "Probabilities are those of the training data's base rate."
    if project.task == "multiclass":
        yield "A row of a class that it was not trained on gets one of the others."
