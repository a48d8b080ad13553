"""First models at defaults: `python -m benchmarks.first_models` → docs/first-models.md.

The rows of the table are kept in first_models.json, so that `--only` measures some of them anew.

Real data sets that installed packages ship go from a CSV through `lifecycle init` and
`end_to_end`, as they are; then five faults are planted in each one's parts, and the model is
fitted, measured, checked and judged again.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import NamedTuple

import numpy as np
import pandas as pd
import yaml
from rich.console import Console
from rich.table import Table

from lifecycle.lake.read import read_version
from lifecycle.lake.write import write_version
from lifecycle.project import Project
from lifecycle.project.loader import load_project
from lifecycle.quality import gates
from lifecycle.quality.findings import without_part
from lifecycle.records import Decision, Trained
from lifecycle.release import artifacts, registry
from lifecycle.runtime.servers import free_port
from lifecycle.settings import Settings
from lifecycle.training import fit
from lifecycle.training.evaluation import assess

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"
PAGE = ROOT / "docs" / "first-models.md"
RESULTS_FILE = Path(__file__).with_name("first_models.json")
LEAK = "paid_later"
COPIES = 0.3
"""Share of the holdout that is replaced by train rows."""


class DataSet(NamedTuple):
    """Rows, and the column to predict."""

    frame: pd.DataFrame
    target: str


class Row(NamedTuple):
    """Result for one data set."""

    name: str
    rows: int
    task: str
    outcome: str
    seconds: float
    metric: str
    warned: int
    faults: dict[str, str]
    """Fault → what blocked, or how it passed."""


def _sklearn(name: str, target: str = "target") -> DataSet:
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")(as_frame=True)
    return DataSet(bunch.frame, target)


def _iris() -> DataSet:
    from sklearn.datasets import load_iris

    bunch = load_iris(as_frame=True)
    return DataSet(bunch.data.assign(species=bunch.target_names[bunch.target]), "species")


def _statsmodels(name: str, target: str) -> DataSet:
    import statsmodels.datasets as datasets

    return DataSet(getattr(datasets, name).load_pandas().data, target)


def _affair() -> DataSet:
    frame, _ = _statsmodels("fair", "affairs")
    affair = np.where(frame["affairs"] > 0, "yes", "no")
    return DataSet(frame.drop(columns="affairs").assign(affair=affair), "affair")


def _shared(file: str, target: str) -> DataSet:
    return DataSet(pd.read_csv(SHARED / file), target)


DATA: dict[str, Callable[[], DataSet]] = {
    "iris (scikit-learn)": _iris,
    "wine (scikit-learn)": lambda: _sklearn("wine"),
    "breast_cancer (scikit-learn)": lambda: _sklearn("breast_cancer"),
    "diabetes (scikit-learn)": lambda: _sklearn("diabetes"),
    "digits (scikit-learn)": lambda: _sklearn("digits"),
    "anes96 (statsmodels)": lambda: _statsmodels("anes96", "vote"),
    "fair (statsmodels)": _affair,
    "randhie, visits (statsmodels)": lambda: _statsmodels("randhie", "mdvis"),
    "telco_churn": lambda: _shared("telco_churn.csv", "Churn"),
    "bike_sharing_hour": lambda: _shared("bike_sharing_hour.csv", "cnt"),
    "california_housing": lambda: _shared("california_housing.csv", "median_house_value"),
}


def run(name: str, folder: Path) -> Row:
    """Go from a CSV to the endpoint, then plant the faults."""
    frame, target = DATA[name]()
    folder.mkdir()
    file = folder / "data.csv"
    frame.to_csv(file, index=False)
    port = str(free_port())
    env = os.environ | {"LIFECYCLE_HOME": str(folder / "home"), "LIFECYCLE_SERVE_PORT": port}
    began = monotonic()
    project_file = folder / "project.yaml"
    log = folder / "log.txt"
    with log.open("w") as out:
        for command in (
            [
                str(Path(sys.executable).with_name("lifecycle")),
                "init",
                str(file),
                "--target",
                target,
            ],
            [sys.executable, "-m", "flows.end_to_end", "--project", str(project_file)],
        ):
            process = subprocess.run(
                command, cwd=ROOT, env=env, stdout=out, stderr=subprocess.STDOUT, check=False
            )
            if process.returncode not in (0, 2):
                raise RuntimeError(f"{name}: {' '.join(command)} failed: see {log}")
    seconds = monotonic() - began
    settings = Settings(home=folder / "home")
    project = load_project(project_file)
    champion = registry.by_alias(project.name, registry.CHAMPION, settings)
    model = next(reversed(registry.versions(project.name, settings)), None)  # the first one
    if model is None:
        return Row(name, len(frame), project.task, _last_line(log), seconds, "–", 0, {})
    trained = artifacts.record_of(model, settings)
    if champion:
        outcome = "served"
    elif trained.decision.passed:
        outcome = f"not released: {_last_line(log)}"
    else:
        outcome = "blocked: " + "; ".join(_causes(trained.decision))
    value, base = (e.metrics[project.metric] for e in (trained.evaluation, trained.baseline))
    return Row(
        name,
        len(frame),
        project.task,
        outcome,
        seconds,
        f"{project.metric} {value.value:.3g} (baseline {base.value:.3g})",
        len(trained.checks.warned),
        dict(_faults(project, settings, trained)),
    )


def _last_line(log: Path) -> str:
    return log.read_text().strip().splitlines()[-1]


def _causes(decision: Decision) -> list[str]:
    """The beginning of each blocking reason."""
    texts = (
        reason.split(":")[0].removesuffix(" failed").removeprefix("Check ")
        for reason in decision.blocking
    )
    return list(dict.fromkeys(map(without_part, texts)))


def _faults(project: Project, settings: Settings, trained: Trained) -> Iterator[tuple[str, str]]:
    parts = {
        part: read_version(getattr(trained.split, part))
        for part in ("train", "validation", "holdout")
    }
    importances = assess.answer(
        project,
        trained.split.holdout,
        artifacts.bundle_path(trained.model, settings),
        trained.model.digest,
    ).importances
    for fault, plant in FAULTS.items():
        planted = plant(project, {part: rows.copy() for part, rows in parts.items()}, importances)
        if planted is None:
            yield fault, "–"
            continue
        changed, rows = planted
        decision = _judge(changed, settings, trained, rows)
        causes = "; ".join(_causes(decision))
        yield fault, causes if not decision.passed else "passed"


def _judge(
    project: Project, settings: Settings, trained: Trained, parts: dict[str, pd.DataFrame]
) -> Decision:
    """Fit, measure, check and decide on these parts, as `train` does."""
    from tasks.evaluation import measure
    from tasks.quality import check_candidate, checks_program

    versions = {
        part: write_version(rows, str(settings.folder("planted") / part), note={})
        for part, rows in parts.items()
    }
    split = trained.split.model_copy(update=versions)
    identity = trained.identity.model_copy(update={"digest": f"planted{os.urandom(16).hex()}"})
    bundle = fit.fit(project, split, trained.tuned, settings, identity)
    answers = assess.answer(project, split.holdout, bundle.path, bundle.digest)
    evaluated = measure(project, settings, split, answers, None)
    with checks_program(settings) as program:
        checks = check_candidate(project, settings, split, bundle, program)
    return gates.decide(evaluated, checks, project.gate, project.metric, project.checks.accept)


Parts = dict[str, pd.DataFrame]
Planted = tuple[Project, Parts] | None


def _codes(project: Project, target: pd.Series) -> np.ndarray:
    if project.task in ("regression", "count"):
        return target.to_numpy(dtype=float)
    return target.astype(str).rank(method="dense").to_numpy(dtype=float)


def leak(project: Project, parts: Parts, importances: dict[str, float]) -> Planted:
    """A feature that is the target, with noise of 1 % of its spread."""
    together = _codes(project, pd.concat([rows[project.target] for rows in parts.values()]))
    noisy = together + np.random.default_rng(0).normal(0, 0.01 * together.std(), len(together))
    first = 0
    for rows in parts.values():
        rows[LEAK] = noisy[first : first + len(rows)]
        first += len(rows)
    declared = yaml.safe_load(project.file.read_text())
    declared["contract"]["columns"][LEAK] = {"type": "number"}
    file = project.file.with_name("leak.yaml")
    file.write_text(yaml.safe_dump(declared, sort_keys=False))
    return load_project(file), parts


def copies(project: Project, parts: Parts, importances: dict[str, float]) -> Planted:
    """Train rows in the holdout."""
    holdout, rng = parts["holdout"], np.random.default_rng(0)
    rows = rng.permutation(len(holdout))[: int(COPIES * len(holdout))]
    sample = parts["train"].iloc[rng.choice(len(parts["train"]), len(rows), replace=False)]
    keys = [project.entity, project.time and project.time.column]
    columns = holdout.columns.difference(keys)
    holdout.loc[holdout.index[rows], columns] = sample[columns].to_numpy()
    return project, parts


def shuffled(project: Project, parts: Parts, importances: dict[str, float]) -> Planted:
    """Labels of the holdout that belong to other rows."""
    holdout = parts["holdout"]
    target = holdout[project.target]
    holdout[project.target] = target.sample(frac=1, random_state=1).set_axis(target.index)
    return project, parts


def moved(project: Project, parts: Parts, importances: dict[str, float]) -> Planted:
    """Labels of the holdout in the next class, or higher by a standard deviation."""
    holdout = parts["holdout"]
    target = holdout[project.target]
    if project.task in ("regression", "count"):
        higher = target.astype(float) + float(target.std())
        integer = project.contract.columns[project.target].type == "integer"
        holdout[project.target] = higher.round().astype(target.dtype) if integer else higher
    else:
        levels = sorted(parts["train"][project.target].unique(), key=str)
        following = dict(zip(levels, [*levels[1:], levels[0]], strict=True))
        holdout[project.target] = target.map(following).astype(target.dtype)
    return project, parts


def unit(project: Project, parts: Parts, importances: dict[str, float]) -> Planted:
    """The most important measured feature in thousandths of its unit."""
    holdout = parts["holdout"]
    for name in importances:
        measured = name in holdout and pd.api.types.is_float_dtype(holdout[name])
        if measured and holdout[name].nunique() >= 10:
            holdout[name] = holdout[name] * 1000
            return project, parts
    return None


FAULTS: dict[str, Callable[[Project, Parts, dict[str, float]], Planted]] = {
    "leak": leak,
    "copies": copies,
    "shuffled labels": shuffled,
    "moved labels": moved,
    "unit": unit,
}


def page(rows: list[Row]) -> str:
    """The table as Markdown."""
    served = sum(row.outcome == "served" for row in rows)
    planted = [fault for row in rows for fault in row.faults.values() if fault != "–"]
    blocked = sum(fault != "passed" for fault in planted)
    lines = [
        "# First models at defaults",
        "",
        f"{served} of {len(rows)} data sets end with a served model, from `lifecycle init` to "
        f"`end_to_end`, with nothing changed by hand. Of {len(planted)} planted faults {blocked} "
        "are blocked.",
        "",
        "| data | rows | task | outcome | holdout | warnings | seconds |",
        "|---|--:|---|---|---|--:|--:|",
    ]
    lines += [
        f"| {row.name} | {row.rows:,} | {row.task} | {row.outcome} | {row.metric} | {row.warned} | "
        f"{row.seconds:.0f} |"
        for row in rows
    ]
    names = list(FAULTS)
    lines += [
        "",
        "What blocks each planted fault; – where the data have no column for it:",
        "",
        f"| data | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
    ]
    lines += [
        f"| {row.name} | {' | '.join(row.faults.get(name, '–') for name in names)} |"
        for row in rows
    ]
    lines += [
        "",
        *(
            f"- **{name}**: {(fault.__doc__ or '').splitlines()[0]}"
            for name, fault in FAULTS.items()
        ),
        "",
        "Made by `python -m benchmarks.first_models`. Faults are planted after the contract, whose "
        "ranges would send many such rows to quarantine.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", help="a data set's name, or its beginning")
    parser.add_argument("--keep", type=Path, help="a new folder for projects and logs")
    options = parser.parse_args()
    chosen = [n for n in DATA if not options.only or n.startswith(tuple(options.only))]
    console = Console()
    results = json.loads(RESULTS_FILE.read_text()) if RESULTS_FILE.exists() else []
    measured = {row["name"]: Row(**row) for row in results}
    with TemporaryDirectory(prefix="first-") as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(exist_ok=True)
        for at, name in enumerate(chosen):
            console.print(f"{name} …", style="dim")
            row = measured[name] = run(name, folder / str(at))
            console.print(f"  {row.outcome}; {row.metric}; {row.seconds:.0f} s; {row.faults}")
            rows = [measured[name] for name in DATA if name in measured]
            RESULTS_FILE.write_text(json.dumps([row._asdict() for row in rows], indent=1) + "\n")
            PAGE.write_text(page(rows))
    table = Table("data", "outcome", *FAULTS)
    for row in (measured[name] for name in chosen):
        table.add_row(row.name, row.outcome, *(row.faults.get(name, "–") for name in FAULTS))
    console.print(table)


if __name__ == "__main__":
    main()
