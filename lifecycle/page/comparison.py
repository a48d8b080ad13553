"""Comparison of trained versions: what differs in data, parameters and code, and what it did.

All are measured on one holdout, that of the version trained last: measured on rows of their own,
two models differ by the rows, too. Gains are measured in pairs, over the version named first.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from lifecycle.errors import RegistryError
from lifecycle.features.encode import labels
from lifecycle.lake.read import read_version
from lifecycle.lineage.graph import SHORT
from lifecycle.lineage.models import inputs_of, model_runs
from lifecycle.project import Project
from lifecycle.records import Estimate, Evaluation, Gain, ModelVersion, Record
from lifecycle.release.artifacts import logged_record, predict_of, threshold_of
from lifecycle.release.lifetime import MADE_PREFIX
from lifecycle.release.registry import IDENTITY, versions
from lifecycle.runtime.charts import svg
from lifecycle.runtime.html import Cell, PageSection, Table, Tone, page
from lifecycle.settings import Settings
from lifecycle.training.evaluation.evaluate import Measurement, compare, evaluate
from lifecycle.training.own_metrics import own_metrics

if TYPE_CHECKING:
    from mlflow.entities import Run

MIN_RUN_LETTERS = 6
"""Of an MLflow run's id that name it."""
ORIGIN_TAGS = {"who": "trained by", "run_name": "flow run", "commit": "commit"}
CONFIDENCE = 0.95
ROUNDING = 1e-9
"""What sums in another order make of a gain between equal models, at most."""


class Difference(Record):
    """Something in which the versions differ."""

    group: str
    """`data`, `parameters` or `code`."""
    name: str
    values: tuple[str, ...]
    """Of each version, in order; a dash where it has none."""


class VersionComparison(Record):
    """Two or three versions side by side."""

    project: str
    versions: tuple[ModelVersion, ...]
    differences: tuple[Difference, ...]
    holdout: str
    """The part that all were measured on, such as `holdout@4`."""
    rows: int
    evaluations: tuple[Evaluation, ...]
    gains: tuple[dict[str, Gain], ...]
    """Metric → gain over the first version, of each other version; above 0 it is better."""
    notes: tuple[str, ...] = ()


def compare_versions(
    project: Project, settings: Settings, refs: Sequence[str]
) -> VersionComparison:
    """Compare versions that are named by number, alias or MLflow run.

    Args:
        refs: two or more, such as `3`, `champion`, or the first 6 letters of a run's id.

    Raises:
        RegistryError: there is no such version, or two names mean one version.
        BackendError: a store cannot be read.
        LifecycleError: a model cannot answer the holdout.
    """
    registered = versions(project.name, settings)
    models = [find_version(project.name, registered, ref) for ref in refs]
    if len(set(models)) < len(models):
        raise RegistryError(f"{', '.join(refs)}: two of these are the same version")
    runs = {run.info.run_id: run for run in model_runs(project, settings)}
    newest = max(models, key=lambda model: model.version)
    holdout = logged_record(newest, settings).split.holdout
    frame = read_version(holdout)
    truth = labels(frame, project)
    groups = frame[project.entity].to_numpy() if project.entity else None
    own = own_metrics(project)
    answers, evaluations, gains = [], [], []
    for model in models:
        prediction = predict_of(model, settings)(frame)
        by = Measurement(
            project.task,
            project.split.seed,
            groups=groups,
            own=own,
            threshold=threshold_of(model, settings),
        )
        answers.append((prediction, by))
        subject = f"v{model.version}"
        evaluations.append(evaluate(truth, prediction, by, holdout.digest, subject))
    first, by_first = answers[0]
    for prediction, by in answers[1:]:
        gains.append(
            {
                metric: compare(
                    truth,
                    prediction,
                    first,
                    metric,
                    by,
                    CONFIDENCE,
                    thresholds=(by.threshold, by_first.threshold),
                )
                for metric in evaluations[0].metrics
            }
        )
    table = holdout.uri.rstrip("/").rpartition("/")[2]
    return VersionComparison(
        project=project.name,
        versions=tuple(models),
        differences=tuple(differences([_facts(runs.get(model.run_id)) for model in models])),
        holdout=f"{table}@{holdout.version}",
        rows=holdout.rows,
        evaluations=tuple(evaluations),
        gains=tuple(gains),
        notes=tuple(_agreement(project, models, [prediction for prediction, _ in answers])),
    )


def differences(facts: Sequence[Mapping[tuple[str, str], str]]) -> list[Difference]:
    """Return the facts that are not the same of all, data first."""
    keys = dict.fromkeys(key for each in facts for key in each)
    groups = ("data", "parameters", "code")
    unequal = [
        Difference(group=key[0], name=key[1], values=tuple(each.get(key, "–") for each in facts))
        for key in keys
        if len({each.get(key, "–") for each in facts}) > 1
    ]
    return sorted(unequal, key=lambda difference: groups.index(difference.group))


def find_version(
    name: str, registered: Mapping[ModelVersion, tuple[str, ...]], ref: str
) -> ModelVersion:
    """The version that is meant.

    Args:
        registered: versions with their aliases.
        ref: a number, an alias, or the first letters of an MLflow run's id.

    Raises:
        RegistryError: there is none.
    """
    text = ref.removeprefix("model:").removeprefix("v")
    for model, aliases in registered.items():
        is_run = len(text) >= MIN_RUN_LETTERS and model.run_id.startswith(text)
        if text == str(model.version) or ref in aliases or is_run:
            return model
    have = ", ".join(str(model.version) for model in registered) or "none yet"
    raise RegistryError(f"{name} has no version or run {ref!r}; it has the versions {have}")


def _facts(run: "Run | None") -> dict[tuple[str, str], str]:
    """Inputs of a training, by group and name."""
    if run is None:
        return {}
    tags = run.data.tags
    facts = {("data", part): source for source, part in inputs_of(run)}
    facts["data", "digest"] = tags.get(f"{IDENTITY}.data", "")[:SHORT]
    facts |= {("parameters", name): value for name, value in run.data.params.items()}
    facts["parameters", "seed"] = tags.get(f"{IDENTITY}.seed", "")
    facts |= {
        ("code", name): tags.get(f"{IDENTITY}.{key}", "")[:SHORT]
        for key, name in (("code", "digest"), ("lock", "locked packages"))
    }
    facts |= {
        ("code", name): tags.get(f"{MADE_PREFIX}{key}", "")[:40]
        for key, name in ORIGIN_TAGS.items()
    }
    return {key: value for key, value in facts.items() if value}


def _agreement(
    project: Project, models: Sequence[ModelVersion], predictions: Sequence["np.ndarray"]
) -> list[str]:
    """Say how alike the answers are."""
    lines = []
    for model, prediction in zip(models[1:], predictions[1:], strict=True):
        pair = f"v{model.version} and v{models[0].version}"
        distance = np.abs(np.asarray(prediction) - np.asarray(predictions[0]))
        lines.append(
            f"Answers of {pair} differ by {float(distance.mean()):.3g} on average, by "
            f"{float(distance.max()):.3g} at most."
        )
    return lines


# What is shown of it, in a terminal and as a page.


def metric_table(comparison: VersionComparison) -> Table:
    """Metrics of each version, and gains in pairs, each with its 95 % interval."""
    first, *others = comparison.versions
    header = ["metric", *(f"v{model.version}" for model in comparison.versions)]
    header += [f"gain of v{model.version} over v{first.version}" for model in others]
    rows: list[tuple[str | Cell, ...]] = []
    for metric in comparison.evaluations[0].metrics:
        cells: list[str | Cell] = [metric.replace("_", " ")]
        cells += [_spell(each.metrics[metric]) for each in comparison.evaluations]
        for gains in comparison.gains:
            gain = gains[metric]
            tone: Tone = "good" if gain.low > 0 else "bad" if gain.high < 0 else "plain"
            cells.append(Cell(f"{gain.value:+.3g} ({gain.low:+.3g} to {gain.high:+.3g})", tone))
        rows.append(tuple(cells))
    return Table(tuple(header), tuple(rows))


def difference_table(comparison: VersionComparison, group: str) -> Table | None:
    """The differences of a group; None without any."""
    chosen = [each for each in comparison.differences if each.group == group]
    if not chosen:
        return None
    header = (group, *(f"v{model.version}" for model in comparison.versions))
    return Table(header, tuple((each.name, *map(_short, each.values)) for each in chosen))


def verdicts(comparison: VersionComparison, metric: str) -> list[Cell]:
    """One sentence per version on the deciding metric."""
    first, *others = comparison.versions
    cells = []
    for model, gains in zip(others, comparison.gains, strict=True):
        gain = gains[metric]
        name = metric.replace("_", " ")
        interval = f"{gain.value:+.3g} ({gain.low:+.3g} to {gain.high:+.3g}) in pairs"
        names = f"v{model.version} {{}} v{first.version} by {name}: {interval}"
        if gain.low > 0:
            cells.append(Cell(names.format("is better than"), "good"))
        elif gain.high < 0:
            cells.append(Cell(names.format("is worse than"), "bad"))
        else:
            cells.append(Cell(names.format("is not shown to differ from"), "plain"))
    return cells


def worse_metrics(gains: Mapping[str, Gain]) -> list[str]:
    """Names of the metrics that are worse than those of the first version, beyond chance."""
    return [name.replace("_", " ") for name, gain in gains.items() if gain.high < -ROUNDING]


def comparison_page(comparison: VersionComparison, metric: str) -> str:
    """The comparison as a self-contained page."""
    names = ", ".join(f"v{model.version}" for model in comparison.versions)
    cells = verdicts(comparison, metric)
    same = [g for g in ("data", "parameters", "code") if difference_table(comparison, g) is None]
    sections = [PageSection("What differs", points=tuple(f"The same {g}." for g in same))]
    sections += [
        PageSection(group.capitalize(), table=table)
        for group in ("data", "parameters", "code")
        if (table := difference_table(comparison, group))
    ]
    sections.append(
        PageSection(
            "Metrics",
            text=(
                f"All on the {comparison.rows:,} rows of {comparison.holdout}, with 95 % "
                "intervals; gains are measured on the same resamples, above 0 is better.",
                *comparison.notes,
            ),
            table=metric_table(comparison),
            html=Markup("").join(gain_chart(comparison, at) for at in range(len(comparison.gains))),
        )
    )
    return page(
        f"{comparison.project}: {names}",
        [*([PageSection("Verdicts", points=tuple(cells))] if len(cells) > 1 else []), *sections],
        verdict=cells[0],
    )


def gain_chart(comparison: VersionComparison, at: int) -> Markup:
    """The gains of a version as intervals around 0, each metric in its own unit."""
    first, *others = comparison.versions
    rows = []
    for metric, gain in comparison.gains[at].items():
        reach = max(abs(gain.low), abs(gain.high), abs(gain.value)) or 1.0
        low, middle, high = (500 + 470 * end / reach for end in (gain.low, gain.value, gain.high))
        shade = "first" if gain.low > 0 else "alarm" if gain.high < 0 else "second"
        name = metric.replace("_", " ")
        text = f"{name} {gain.value:+.3g} ({gain.low:+.3g} to {gain.high:+.3g})"
        drawn = Markup(
            '<path class="mark" d="M500 0V100"/><path class="line {}" d="M{:.1f} 50H{:.1f}"/>'
            '<path class="dot {}" d="M{:.1f} 50h0"><title>{}</title></path>'
        ).format(shade, low, high, shade, middle, text)
        rows.append(
            Markup('<div class="lane"><span>{}</span>{}</div>').format(name, svg([drawn], text))
        )
    title = f"Gain of v{others[at].version} over v{first.version}: better is right of the line"
    return Markup('<figure class="chart lanes"><figcaption>{}</figcaption>{}</figure>').format(
        title, Markup("").join(rows)
    )


def _short(value: str) -> str:
    """A fraction with six digits; anything else as it is."""
    try:
        return f"{float(value):.6g}" if "." in value else value
    except ValueError:
        return value


def _spell(value: Estimate) -> str:
    return f"{value.value:.4g} ({value.low:.4g} to {value.high:.4g})"
