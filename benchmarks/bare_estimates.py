"""NannyML's estimates of quality before labels, as its documentation runs them.

Run with the interpreter of an environment that has it: `python -I bare_estimates.py nannyml`. It
reads a line of JSON per model, `{"reference": FILE, "current": FILE, "rows": N, "metric": METRIC}`,
where a file is NumPy's `.npz` with an array per column, `prediction` and `truth` among them, and
`current` has windows of N rows one after another; it answers with a line of JSON, the metric of
each window. The first line that it writes is its version.
"""

import importlib.metadata
import json
import os
import sys
import warnings
from typing import Any

METRICS = ("roc_auc", "rmse", "mae")
"""Those that it has of ours."""


def estimates(reference: Any, current: Any, rows: int, metric: str) -> list[float]:
    """CBPE for a probability, DLE for a number, on default settings."""
    from nannyml import CBPE, DLE

    common = {"y_true": "truth", "metrics": [metric], "chunk_size": rows}
    if metric in ("rmse", "mae"):
        features = [name for name in reference.columns if name not in ("prediction", "truth")]
        calculator = DLE(y_pred="prediction", feature_column_names=features, **common)
    else:
        for side in (reference, current):
            side["class"] = (side["prediction"] >= 0.5).astype(int)
        calculator = CBPE(
            y_pred_proba="prediction",
            y_pred="class",
            problem_type="classification_binary",
            **common,
        )
    calculator.fit(reference)
    results = calculator.estimate(current).filter(period="analysis").to_df()
    return [float(value) for value in results[(metric, "value")]]


def main(tool: str) -> None:
    """Answer one line after another until there are no more."""
    os.environ |= {"DO_NOT_TRACK": "1", "NML_DISABLE_USAGE_LOGGING": "1"}
    warnings.simplefilter("ignore")
    import numpy as np
    import pandas as pd

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the library prints is no answer
    print(json.dumps(importlib.metadata.version(tool)), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        sides = {}
        for name in ("reference", "current"):
            with np.load(request[name]) as columns:
                sides[name] = pd.DataFrame({column: columns[column] for column in columns.files})
        values = estimates(**sides, rows=request["rows"], metric=request["metric"])
        print(json.dumps(values), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
