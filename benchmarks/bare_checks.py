"""deepchecks' three suites as their documentation runs them, without anything of ours.

Run with the checks' interpreter: `python -I bare_checks.py FOLDER`, where FOLDER has
`train.parquet`, `holdout.parquet` and `bare.json`; prints the seconds that the suites took, without
the import. Pages are not written: that takes the notebook packages, which are not installed.
"""

import contextlib
import importlib.util
import io
import json
import logging
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

PROGRAM = Path(__file__).parents[1] / "lifecycle" / "quality" / "checks_program.py"


def seconds_of(parts: dict[str, Any], python: Path, **request: Any) -> float:
    """Run this file with the checks' interpreter; seconds of the suites.

    Args:
        parts: `train` and `holdout`: frames of features, target and `(answer)`, a probability.
        request: what `bare.json` says.
    """
    defaults: dict[str, Any] = {"rows": None, "importances": None, "slim": {}, "integrity_of": 1}
    with TemporaryDirectory() as folder:
        for name, frame in parts.items():
            frame.to_parquet(Path(folder, f"{name}.parquet"), index=False)
        Path(folder, "bare.json").write_text(json.dumps(defaults | request))
        process = subprocess.run(
            [python, "-I", __file__, folder], capture_output=True, text=True, check=True
        )
    return float(process.stdout.strip().splitlines()[-1])


def main(folder: Path) -> float:
    """Seconds of the suites on the parts in `folder`."""
    spec = importlib.util.spec_from_file_location("checks_program", PROGRAM)
    assert spec
    assert spec.loader
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    sys.meta_path.insert(0, program._Absent())  # packages of notebooks, as ours does without too
    os.environ["DISABLE_LATEST_VERSION_CHECK"] = "true"
    warnings.simplefilter("ignore")
    import pandas as pd
    from deepchecks.tabular import Dataset
    from deepchecks.tabular.suites import data_integrity, model_evaluation, train_test_validation

    logging.getLogger("deepchecks").setLevel(logging.CRITICAL)
    request = json.loads((folder / "bare.json").read_text())
    data = []
    answers: dict[str, Any] = {}
    for name, file in (("train", "train.parquet"), ("test", "holdout.parquet")):
        frame = pd.read_parquet(folder / file)
        positive = frame.pop("(answer)").to_numpy()
        answers[f"y_pred_{name}"] = (positive >= 0.5).astype(int)
        answers[f"y_proba_{name}"] = pd.DataFrame({0: 1 - positive, 1: positive}).to_numpy()
        dataset = Dataset(
            frame,
            label=request["target"],
            cat_features=request["categorical"],
            label_type="binary",
        )
        data.append(dataset)
    rows = {"n_samples": request["rows"]} if request["rows"] else {}
    if request["importances"]:
        answers["feature_importance"] = pd.Series(request["importances"])
    suites = [make(**rows) for make in (data_integrity, train_test_validation, model_evaluation)]
    for suite in suites:
        for check in suite.checks.values():
            for name, value in request["slim"].get(type(check).__name__, {}).items():
                setattr(check, name, value)
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        suites[0].run(*data[: request["integrity_of"]])
        suites[1].run(*data)
        suites[2].run(*data, **answers)
    return time.perf_counter() - started


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
