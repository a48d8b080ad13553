"""deepchecks on 1,000,000 × 20: our adapter beside the bare suites on equal data and answers.

Both look at as many rows (`n_samples`), in the two checks whose time grows with the square of the
rows too, which ours slims (lifecycle/quality/checks_program.py). Ours writes pages, bare none.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from benchmarks.bare_checks import seconds_of
from benchmarks.large import TARGET, frame
from benchmarks.result import Result, information, ratio
from lifecycle.project import ChecksSpec
from lifecycle.quality.checks import run_checks
from lifecycle.quality.checks_program import SEGMENT_FEATURES, SLOW_ROWS
from lifecycle.quality.parts import PredictedPart, compare_parts, draw
from lifecycle.quality.program import ChecksProgram, ChecksRequest, write_request
from lifecycle.settings import Settings

TRAIN, FEATURES = 700_000, 20
"""Of 1,000,000 rows the first are the train part, the others the holdout."""
BAR = 2.0
FIT_S = 20.0
"""Seconds that the program has for its imports before it is asked."""
SPEC = ChecksSpec()
METRIC = "roc_auc"


def parts() -> tuple[pd.DataFrame, PredictedPart, PredictedPart]:
    """The data, and its two parts with the answers of a model that knows four features."""
    data = frame(features=FEATURES)
    features = data.drop(columns=TARGET)
    score = features.to_numpy()[:, :4] @ [1.0, -0.8, 0.6, 0.4]
    truth, prediction = data[TARGET].to_numpy(float), 1 / (1 + np.exp(-score))

    def part(rows: slice) -> PredictedPart:
        return PredictedPart(features[rows], truth[rows], prediction[rows])

    return data, part(slice(0, TRAIN)), part(slice(TRAIN, None))


def importances(features: pd.DataFrame) -> dict[str, float]:
    return {name: float(len(features.columns) - at) for at, name in enumerate(features.columns)}


def bare(train: PredictedPart, holdout: PredictedPart) -> float:
    """Seconds of the three suites as their documentation runs them."""
    parts = {
        name: part.features.assign(**{TARGET: part.truth.astype(int), "(answer)": part.prediction})
        for name, part in (("train", train), ("holdout", holdout))
    }
    importance = pd.Series(importances(train.features))
    return seconds_of(
        parts,
        Settings().checks_interpreter,
        target=TARGET,
        categorical=[],
        rows=SPEC.sample_rows,
        importances=(importance / importance.sum()).to_dict(),
        integrity_of=2,
        slim={
            "OutlierSampleDetection": {"n_samples": SLOW_ROWS},
            "WeakSegmentsPerformance": {
                "n_samples": SLOW_ROWS,
                "n_top_features": SEGMENT_FEATURES,
            },
        },
    )


def request(train: PredictedPart) -> ChecksRequest:
    return ChecksRequest(
        task="binary", metric=METRIC, spec=SPEC, importances=importances(train.features)
    )


def run_lifecycle(
    train: PredictedPart, holdout: PredictedPart, folder: Path, program: ChecksProgram
) -> None:
    """The adapter, with its pages."""
    report = run_checks(train, holdout, request(train), folder, program)
    stated = f"{SPEC.sample_rows:,} of {TRAIN:,} rows of the train part"
    for page in report.reports:
        if stated not in page.read_text():
            raise RuntimeError(f"{page.name} does not state its sampling: {stated}")


def own_part(train: PredictedPart, holdout: PredictedPart, folder: Path) -> None:
    """Do our work before deepchecks gets the data: compare, draw, write the files."""
    comparison = compare_parts(train, holdout, "binary", (), SPEC.sample_rows)
    drawn = [draw(part, SPEC.sample_rows) for part in (train, holdout)]
    write_request(folder, drawn[0], drawn[1], request(train), comparison)


def measure(rounds: int) -> Iterator[Result]:
    """Interleaved rounds; ours starts as it does in a run, while a model would be fitted."""
    _, train, holdout = parts()
    seconds: dict[str, list[float]] = {"ours": [], "bare": [], "own": []}

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        seconds[name].append(time.perf_counter() - started)

    with TemporaryDirectory() as folder:
        for _ in range(rounds):
            with ChecksProgram(Settings()) as program:
                program.start()
                time.sleep(FIT_S)
                with timed("ours"):
                    run_lifecycle(train, holdout, Path(folder), program)
            with timed("own"):
                own_part(train, holdout, Path(folder))
            seconds["bare"].append(bare(train, holdout))
    rows = f"{len(train.truth) + len(holdout.truth):,} × {FEATURES}, {SPEC.sample_rows:,} rows"
    yield ratio(
        "checks: deepchecks on 1M rows, ours / bare suites",
        seconds["ours"],
        seconds["bare"],
        BAR,
        f"s of wall time; {rows} a check; ours writes three pages, bare none; imports in neither",
    )
    own = "comparing the whole parts, drawing and writing the sample; the rest is the program"
    yield information("checks: our own part on 1M rows", seconds["own"], "s", own)
