"""The model card, after Mitchell et al., "Model Cards for Model Reporting" (2019), in Markdown."""

from collections.abc import Iterable, Sequence

from lifecycle.project import Project, Scalar
from lifecycle.quality.evaluation_page import threshold_source
from lifecycle.quality.findings import one_line
from lifecycle.quality.gates import render
from lifecycle.records import CheckReport, DatasetVersion, Decision, Evaluation, Split


def model_card(
    project: Project,
    split: Split,
    evaluation: Evaluation,
    baseline: Evaluation,
    checks: CheckReport,
    decision: Decision,
) -> str:
    """Write the model card as Markdown: use, training data, quality, checks and limits."""
    sections = {
        "Intended use": _use(project),
        "Data": _data(project, split),
        "Columns with a role": _roles(project),
        "Quality on the holdout": _quality(project, evaluation, baseline),
        "Checks": _checks(project, checks),
        "Limits": _limits(project, evaluation),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    return f"# Model card: {project.name}\n\n{body}\n\n{render(decision)}"


def _use(project: Project) -> str:
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
            answer = f"the probability of each class of {target}: {_names(project.classes)}"
        case "count":
            answer = f"how large the count {target} is on average"
        case "regression":
            answer = f"the value of {target}"
    about = f" One row is about one `{project.entity}`." if project.entity else ""
    purpose = " ".join(project.description.split()) or "The project file says no purpose."
    trainer = project.training.trainer
    model = "an XGBoost model" if trainer == "xgboost" else f"a model trained by `{trainer}`"
    return f"{purpose}\n\nThe model predicts {answer}.{about} It is {model}."


def _data(project: Project, split: Split) -> str:
    def row(part: str, dataset: DatasetVersion) -> tuple[str, ...]:
        return part, f"{dataset.rows:,}", str(dataset.version), f"`{dataset.digest[:12]}`"

    parts = (
        row("train", split.train),
        row("validation", split.validation),
        row("holdout", split.holdout),
    )
    withheld = f"{split.withheld:,} rows are in none of the parts."
    source = f"Source: `{project.source.place}`. Split: {one_line(split.rule)} {withheld}"
    if project.training.own_trainer:
        learned = "The trainer was handed the train and the validation part."
    else:
        refit_note = " and the validation" if project.training.refits else ""
        learned = f"The model learned from the train{refit_note} part."
    return f"{source} {learned}\n\n{_table(('part', 'rows', 'version', 'digest'), parts)}"


def _roles(project: Project) -> str:
    hook = f" They pass through `{project.features}`." if project.features else ""
    lines = [
        f"- **Inputs:** {_names(project.input_columns)}.{hook}",
        f"- **Leakage, refused as features:** {_names(project.leakage)}.",
        f"- **Protected attributes:** {_names(project.protected)}.{_protected(project)}",
        f"- **Ignored:** {_names(project.ignore)}.",
    ]
    return "\n".join(lines)


def _protected(project: Project) -> str:
    if not project.protected:
        return ""
    used = [name for name in project.protected if name in project.input_columns]
    if used:
        return f" **Used as inputs:** {_names(used)}."
    return " None is an input; other inputs may still stand in for them."


def _quality(project: Project, evaluation: Evaluation, baseline: Evaluation) -> str:
    rows = [
        (
            f"**{name}**" if name == project.metric else name,
            f"{metric.value:.4g}",
            f"{metric.low:.4g} to {metric.high:.4g}",
            f"{baseline.metrics[name].value:.4g}" if name in baseline.metrics else "–",
        )
        for name, metric in evaluation.metrics.items()
    ]
    table = _table(("metric", "value", "95 % interval", baseline.subject), rows)
    return f"{evaluation.rows:,} rows. The metric that decides is in bold.\n\n{table}"


def _checks(project: Project, checks: CheckReport) -> str:
    accepted = [
        f"- accepted: {name}: {one_line(reason)}" for name, reason in project.checks.accept.items()
    ]
    looked = f"{len(checks.passed)} passed; each looked at {checks.sampled_rows:,} rows at most."
    lines = [
        looked if checks.sampled_rows else "No suite was run.",
        "",
        *(f"- failed: {name}: {check}" for name, check in checks.failed.items()),
        *accepted,
        *(f"- warning: {name}: {check}" for name, check in checks.warned.items()),
        *(f"- not run: {name}: {reason}" for name, reason in checks.not_run.items()),
    ]
    return "\n".join(lines).rstrip()


def _limits(project: Project, evaluation: Evaluation) -> str:
    lines = [
        *(f"- {warning}" for warning in evaluation.warnings),
        "- The numbers hold for data like the holdout's; monitoring says when data have moved.",
        "- A prediction is an association in the data, not a cause: changing an input does not "
        "change the outcome as the model's answer changes.",
    ]
    if project.time is not None:
        lines.append(
            f"- It knows nothing of what changed after the newest `{project.time.column}`."
        )
    if project.task in ("regression", "count"):
        lines.append("- It cannot predict values outside the range of the training data.")
    elif project.training.class_weight:
        lines.append(
            "- It was trained with `class_weight`: its probabilities are not those of the training "
            "data's base rate."
        )
    else:
        lines.append("- Probabilities are those of the training data's base rate.")
    if project.task == "multiclass":
        lines.append("- A row of a class that it was not trained on gets one of the others.")
    return "\n".join(lines)


def _names(names: Iterable[Scalar]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a `|` inside a cell is escaped."""
    lines = [header, ["---"] * len(header), *rows]
    cells = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
