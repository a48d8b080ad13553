"""Speed of logging a model's numbers to MLflow on SQLite, next to one call per metric."""

import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.result import Result, at_least, information
from lifecycle.records import (
    Bundle,
    CheckReport,
    DatasetVersion,
    Decision,
    Evaluation,
    Identity,
    ModelVersion,
    Split,
    Trained,
    Tuned,
)
from lifecycle.release.mlflow_run import log_numbers
from lifecycle.release.mlflow_store import connect, experiment_id
from lifecycle.settings import Settings

ROUNDS = 2_500
"""Boosting rounds of the learning curve: with two parts 5,000 metrics."""
SINGLE = 200


def measure(rounds: int) -> Iterator[Result]:
    """Each round is a run of its own in one store."""
    batched: list[float] = []
    single: list[float] = []
    with TemporaryDirectory() as home:
        settings = Settings(home=Path(home))
        client = connect(settings)
        experiment = experiment_id(client, "tracking", settings)
        curve = tuple(1 / (at + 1) for at in range(ROUNDS))
        bundle = Bundle(
            path=Path("none"), digest="", rounds=ROUNDS, curve={"train": curve, "validation": curve}
        )
        for _ in range(rounds):
            run = client.create_run(experiment).info.run_id
            model = client.create_logged_model(experiment, source_run_id=run).model_id
            started = time.perf_counter()
            log_numbers(client, run, model, bundle, _trained())
            batched.append(2 * ROUNDS / (time.perf_counter() - started))
            started = time.perf_counter()
            for at in range(SINGLE):
                client.log_metric(run, "single", at, step=at)
            single.append(SINGLE / (time.perf_counter() - started))
    detail = f"a learning curve of {ROUNDS:,} rounds, on SQLite"
    yield at_least("MLflow: metrics logged", batched, "1/s", 2000, detail)
    yield information(
        "MLflow: metrics logged one by one", single, "1/s", "what batches save us from"
    )


def _trained() -> Trained:
    """A model without numbers of its own."""
    part = DatasetVersion(uri="none", version=0, digest="", rows=1)
    empty = Evaluation(subject="none", metrics={}, holdout="", rows=1)
    return Trained(
        model=ModelVersion(name="none", version=1, uri="", run_id="", digest="", identity=""),
        evaluation=empty,
        baseline=empty,
        checks=CheckReport(passed=(), failed={}, not_run={}, reports=(), sampled_rows=0),
        decision=Decision(gate="promotion", passed=True, reasons=()),
        split=Split(train=part, validation=part, holdout=part, withheld=0, rule=""),
        tuned=Tuned(parameters={}, value=None, trials=0),
        identity=Identity(data="", code="", lock="", project="", seed=1, digest=""),
    )
