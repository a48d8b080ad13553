"""Evidently and NannyML as their documentation runs them, without anything of ours.

Run with the interpreter of an environment that has one of them:
`python -I bare_monitors.py evidently` (or `nannyml`). It reads a line of JSON per pair of windows,
`{"reference": FILE, "current": FILE, "categorical": [...]}`, where a file is NumPy's `.npz` with an
array per column, and answers with a line of JSON: the columns that are called drifted, whether the
window as a whole is, and the seconds that it took. The first line that it writes is its version.
"""

import importlib.metadata
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

Verdict = tuple[list[str], bool]
"""Drifted columns, and whether the window as a whole has drifted."""


def evidently(reference: Any, current: Any, categorical: list[str]) -> Verdict:
    """The preset for drift with its tests, on default settings: half of the columns are drift."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    numerical = [name for name in reference.columns if name not in categorical]
    definition = DataDefinition(numerical_columns=numerical, categorical_columns=categorical)
    sides = [Dataset.from_pandas(side, data_definition=definition) for side in (current, reference)]
    snapshot = Report([DataDriftPreset()], include_tests=True).run(*sides)
    failed = [test for test in snapshot.dict()["tests"] if test["status"] == "FAIL"]
    columns = [
        test["metric_config"]["params"]["column"]
        for test in failed
        if "column" in test["metric_config"]["params"]
    ]
    return columns, len(columns) < len(failed)


def nannyml(reference: Any, current: Any, categorical: list[str]) -> Verdict:
    """Univariate drift on default settings, in chunks of the size of the window.

    An alert is a distance beyond the mean of the reference's chunks and three of their standard
    deviations.
    """
    from nannyml import UnivariateDriftCalculator

    calculator = UnivariateDriftCalculator(
        column_names=[*reference.columns],
        treat_as_categorical=categorical,
        chunk_size=len(current),
    )
    calculator.fit(reference)
    results = calculator.calculate(current).filter(period="analysis").to_df()
    alerts = results.xs("alert", axis=1, level=-1).any(axis=0)
    columns = [str(name[0]) for name, alert in alerts.items() if alert]
    return columns, bool(columns)


TOOLS: dict[str, Callable[[Any, Any, list[str]], Verdict]] = {
    "evidently": evidently,
    "nannyml": nannyml,
}


def main(tool: str) -> None:
    """Answer one line after another until there are no more."""
    os.environ |= {"DO_NOT_TRACK": "1", "NML_DISABLE_USAGE_LOGGING": "1"}
    warnings.simplefilter("ignore")
    import numpy as np
    import pandas as pd

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the libraries print is no answer
    small = pd.DataFrame({"a": np.linspace(0, 1, 100), "b": ["x", "y"] * 50})
    TOOLS[tool](small, small.head(10), ["b"])  # imports all that it needs
    print(json.dumps(importlib.metadata.version(tool)), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        sides = []
        for name in ("reference", "current"):
            with np.load(request[name]) as columns:
                sides.append(pd.DataFrame({column: columns[column] for column in columns.files}))
        started = time.perf_counter()
        columns, as_a_whole = TOOLS[tool](sides[0], sides[1], request["categorical"])
        seconds = time.perf_counter() - started
        answer = {"columns": columns, "as_a_whole": as_a_whole, "seconds": seconds}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
