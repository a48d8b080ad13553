"""Effect of training on the validation part too: `python -m benchmarks.refit`.

Real data sets are split repeatedly as a project splits: 20 % held out, 15 % for validation. On each
split a model is stopped early by the validation part, then fitted again on train and validation
with the same number of rounds, or in proportion to the rows. The score is the task's proper scoring
rule on the holdout. Parameters are those that `lifecycle init` writes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import statsmodels.api as sm
import xgboost
from numpy.typing import NDArray
from rich.console import Console
from sklearn import datasets

from lifecycle.project import SCORING_RULES, TaskKind
from lifecycle.training.evaluation.evaluate import metric_value

SHARED = Path(__file__).parents[2] / "shared" / "data"
HOLDOUT, VALIDATION = 0.2, 0.15
ROUNDS, PATIENCE = 300, 25
PARAMETERS = {"eta": 0.1, "max_depth": 5, "tree_method": "hist", "nthread": 1, "seed": 17}
OBJECTIVES: dict[TaskKind, tuple[str, str]] = {
    "binary": ("binary:logistic", "logloss"),
    "multiclass": ("multi:softprob", "mlogloss"),
    "regression": ("reg:squarederror", "rmse"),
    "count": ("count:poisson", "poisson-nloglik"),
}
WAYS = ("train only", "refit", "refit, rounds by rows")

Rows = NDArray[np.int64]


class Data(NamedTuple):
    """One data set."""

    name: str
    task: TaskKind
    features: pd.DataFrame
    target: NDArray[np.float64]
    ordered: bool = False
    """Whether the rows are in the order of time: then the newest are held out."""


def data_sets() -> Iterator[Data]:
    """All data sets that are on this machine."""
    for name, task in (
        ("iris", "multiclass"),
        ("wine", "multiclass"),
        ("breast_cancer", "binary"),
        ("diabetes", "regression"),
        ("digits", "multiclass"),
    ):
        bunch = getattr(datasets, f"load_{name}")(as_frame=True)
        yield Data(name, task, bunch.data, bunch.target.to_numpy(np.float64))  # type: ignore[arg-type]
    for name, target, task in (
        ("anes96", "vote", "binary"),
        ("fair", "affairs", "binary"),
        ("randhie", "mdvis", "count"),
    ):
        frame = getattr(sm.datasets, name).load_pandas().data
        truth = frame.pop(target).to_numpy(np.float64)
        answers = truth if task == "count" else (truth > 0).astype(np.float64)
        yield Data(name, task, frame, answers)  # type: ignore[arg-type]
    if SHARED.is_dir():
        yield from _shared()


def _shared() -> Iterator[Data]:
    churn = pd.read_csv(SHARED / "telco_churn.csv", na_values=" ").drop(columns="customerID")
    answers = np.asarray(churn.pop("Churn").eq("Yes"), dtype=np.float64)
    yield Data("telco_churn", "binary", churn, answers)
    houses = pd.read_csv(SHARED / "california_housing.csv")
    value = houses.pop("median_house_value").to_numpy(np.float64)
    yield Data("california_housing", "regression", houses, value)
    bikes = pd.read_csv(SHARED / "bike_sharing_hour.csv").sort_values("instant")
    count = bikes.pop("cnt").to_numpy(np.float64)
    left_out = ["instant", "dteday", "casual", "registered"]
    yield Data("bike_sharing", "count", bikes.drop(columns=left_out), count, ordered=True)


def parts(data: Data, repeat: int, repeats: int) -> tuple[Rows, Rows, Rows]:
    """Train, validation and holdout; of ordered rows each repeat ends at a later row."""
    rows = len(data.target)
    order = np.random.default_rng(repeat).permutation(rows)
    if data.ordered:
        order = np.arange(int(rows * (0.6 + 0.4 * (repeat + 1) / repeats)))
    holdout, validating = int(len(order) * (1 - HOLDOUT)), int(len(order) * VALIDATION)
    return order[: holdout - validating], order[holdout - validating : holdout], order[holdout:]


def scores(data: Data, repeat: int, repeats: int) -> list[float]:
    """The scoring rule on the holdout for each of `WAYS`, and the rounds that were kept."""
    train, validation, holdout = parts(data, repeat, repeats)
    text = data.features.select_dtypes(exclude="number").columns
    features = data.features.astype({name: "category" for name in text})

    def matrix(rows: Rows) -> xgboost.DMatrix:
        chosen, truth = features.iloc[rows], data.target[rows]
        return xgboost.DMatrix(chosen, truth, enable_categorical=True, nthread=1)

    def score(booster: xgboost.Booster) -> float:
        predicted = booster.predict(matrix(holdout))
        rule = SCORING_RULES[data.task]
        return metric_value(rule, data.target[holdout], predicted, data.task)

    objective, metric = OBJECTIVES[data.task]
    parameters = {**PARAMETERS, "objective": objective, "eval_metric": metric}
    if data.task == "multiclass":
        parameters["num_class"] = int(data.target.max()) + 1
    first = xgboost.train(
        parameters,
        matrix(train),
        ROUNDS,
        evals=[(matrix(validation), "validation")],
        early_stopping_rounds=PATIENCE,
        verbose_eval=False,
    )
    rounds = first.best_iteration + 1
    pooled = matrix(np.r_[train, validation])
    scaled = round(rounds * pooled.num_row() / len(train))
    return [
        score(first[:rounds]),
        score(xgboost.train(parameters, pooled, rounds)),
        score(xgboost.train(parameters, pooled, scaled)),
        rounds,
    ]


def repeats_of(data: Data) -> int:
    """Few rows need many splits to tell a difference, and are quick."""
    return 40 if len(data.target) < 1_000 else 20 if len(data.target) < 10_000 else 10


def summary(data: Data) -> list[str]:
    """A row of the table: means, and how much the refits change them, ± 2 standard errors."""
    repeats = repeats_of(data)
    results = np.array([scores(data, repeat, repeats) for repeat in range(repeats)])
    means = results.mean(axis=0)
    cells = [data.name, f"{len(data.target):,}", f"{repeats}", SCORING_RULES[data.task]]
    cells += [f"{np.median(results[:, -1]):.0f}", *(f"{mean:.4g}" for mean in means[:-1])]
    for way in (1, 2):
        change = 100 * (results[:, way] - results[:, 0]) / means[0]
        error = 2 * change.std(ddof=1) / np.sqrt(repeats)
        better = int((change < 0).sum())
        cells.append(f"{change.mean():+.1f} % ± {error:.1f}, better in {better}")
    return cells


def main() -> None:
    """Print the table as Markdown, row by row."""
    console = Console(width=200, soft_wrap=True)
    header = ["data", "rows", "splits", "score (less is better)", "rounds kept, median", *WAYS]
    header += [f"change: {way}" for way in WAYS[1:]]
    console.print("| " + " | ".join(header) + " |\n" + "|---" * len(header) + "|")
    for data in data_sets():
        console.print("| " + " | ".join(summary(data)) + " |")


if __name__ == "__main__":
    main()
