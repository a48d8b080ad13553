"""deepchecks' suites as a program of its own: run by path, with the interpreter of `.venv-checks`.

    python -I checks_program.py FOLDER PARENT_PID

Imports nothing of `lifecycle`, and deepchecks only once it runs, so that our side can read its
constants. It waits for one line on its standard input, and then turns `train.parquet`,
`holdout.parquet` and `request.json` in FOLDER into `report.json` and `plotly.js`. It ends when its
standard input is closed or its parent is gone, however that ended, and then removes FOLDER. It
opens no connection.
"""

import json
import os
import re
import select
import shutil
import sys
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

VERSION = 1
"""Of the files; both sides state it."""
REQUEST, REPORT, PLOTLY = "request.json", "report.json", "plotly.js"
PARTS = {"train": "train.parquet", "test": "holdout.parquet"}
"""deepchecks' word for a part → its file."""
LABEL, ENTITY, TIME, ANSWER = "(target)", "(entity)", "(time)", "(answer)"
"""Columns that are no features, by names no feature has."""
ROLES = {LABEL: "label", ENTITY: "index_name", TIME: "datetime_name"}
"""Column → deepchecks' word for its role."""
OBJECT = "object"
"""Columns of Python objects travel as JSON texts, which tell NaN from None and 1 from true."""

SLOW_ROWS = 2_000
"""Rows for the checks whose time grows with the square of the rows (see `_slim`)."""
SEGMENT_FEATURES = 6
"""Weak segments are searched in pairs of this many of the most important features."""
IDENTIFIER_PPS, SYSTEMATIC_ERROR = 0.5, 0.1
"""Limits of two checks; see `_fit_conditions`."""
MOVED = 0.7
"""Mean error over RMSE above which half of the squared error is one constant."""
GIVEAWAY_PPS, DOMINANT_PPS, LEAD = 0.97, 0.8, 0.3
"""One feature gives the target away: nearly exactly, or well and far better than the next best."""
SPECIAL_SHARE = 0.1
"""Share of a column's cells that may be punctuation alone."""
NAMES = {"IsSingleValue": "Single Value in Column", "CalibrationScore": "Calibration Metric"}
"""Checks whose results are headed otherwise than by the check's name."""
ABSENT = ("IPython", "ipykernel", "ipywidgets", "requests", "statsmodels")
"""What deepchecks imports and a run without a notebook or network never calls: not installed."""
POLL_S = 0.5
EPSILON = sys.float_info.epsilon
LEAST_COUNT = 1e-9
"""A Poisson deviance needs expectations above 0."""
BINARY = {"log_loss": "neg_log_loss", "brier": "neg_brier_score"}
"""deepchecks' names of binary metrics where they differ from ours."""


class _Absent(MetaPathFinder, Loader):
    """Empty stand-ins for the packages of `ABSENT`: every name in them is an empty class."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name.partition(".")[0] in ABSENT:
            return ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        def stand_in(name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {"__module__": module.__name__})

        # a module's own `__getattr__` is asked for every name it lacks
        vars(module).update(__getattr__=stand_in, get_ipython=lambda: None)


def main(folder: Path, parent: int) -> None:
    """Import deepchecks, wait for the request, and write the report."""
    stop_event = threading.Event()
    threading.Thread(target=_watch, args=(folder, parent, stop_event), daemon=True).start()
    sys.addaudithook(_refuse_network)
    sys.meta_path.insert(0, _Absent())
    os.environ["DISABLE_LATEST_VERSION_CHECK"] = "true"
    warnings.simplefilter("ignore")
    import logging

    import deepchecks.tabular.suites  # noqa: F401 (its logger sets its level at import)
    import numpy as np
    from joblib import parallel_config
    from threadpoolctl import threadpool_limits

    logging.getLogger("deepchecks").setLevel(logging.CRITICAL)  # no progress bars
    np.random.seed(42)
    fit_trees_once()
    stop_event.wait()
    # waiting threads of OpenMP cost 20 s where cores are busy; joblib's processes import all again
    with threadpool_limits(1), parallel_config(backend="threading"):
        report = run(folder)
    (folder / "report.part").write_text(json.dumps(report), encoding="utf-8")
    (folder / "report.part").rename(folder / REPORT)


def _watch(folder: Path, parent: int, stop_event: threading.Event) -> None:
    """Set `stop_event` at the first line; end the process with its parent."""
    stream = sys.stdin.fileno()
    while os.getppid() == parent:
        if not select.select([stream], [], [], POLL_S)[0]:
            continue
        if not os.read(stream, 4096):
            break
        stop_event.set()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(3)


def _refuse_network(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        raise PermissionError("the checks use no network")


def run(folder: Path) -> dict[str, Any]:
    """Run the suites that the request names; the contents of `report.json`."""
    from plotly.offline import get_plotlyjs

    request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    if request["version"] != VERSION:
        raise ValueError(f"the request has version {request['version']}, not {VERSION}")
    frames = {part: read(folder / PARTS[part], request["dtypes"]) for part in PARTS}
    inputs = as_given(frames, request)
    (folder / PLOTLY).write_text(get_plotlyjs(), encoding="utf-8")
    suites = {}
    for key in request["suites"]:
        suite, skipped = make_suite(key, request)
        results = run_suite(suite, inputs)
        suites[key] = {
            "title": suite.name.replace("Suite", "").strip(),
            "results": [_plain(result) for result in results],
            "skipped": skipped,
        }
    return {"version": VERSION, "suites": suites}


def read(path: Path, dtypes: Mapping[str, str]) -> Any:
    """A part as it left: each column with the type it had."""
    import pandas as pd
    import pyarrow.parquet as pq

    frame = pq.read_table(path).to_pandas()
    for name, dtype in dtypes.items():
        if dtype == OBJECT:
            values = {text: json.loads(text) for text in frame[name].unique()}
            cells = [values[text] for text in frame[name]]
            frame[name] = pd.Series(cells, index=frame.index, dtype=object)
        elif str(frame[name].dtype) != dtype:
            frame[name] = frame[name].astype(dtype)
    return frame


def as_given(frames: Mapping[str, Any], request: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of deepchecks' `Suite.run`; rows are numbered on, or it would rename them all."""
    import pandas as pd
    from deepchecks.tabular import Dataset

    task, features = request["task"], request["features"]
    inputs: dict[str, Any] = {}
    first = 0
    for part, frame in frames.items():
        rows = frame.set_axis(pd.RangeIndex(first, first + len(frame)), axis=0)
        first += len(frame)
        roles = {ROLES[column]: column for column in ROLES if column in rows}
        inputs[f"{part}_dataset"] = Dataset(
            rows[[*features, *roles.values()]],
            **roles,
            features=features,
            cat_features=request["categorical"],
            label_type="regression" if task == "count" else task,
            convert_datetime=False,
        )
        inputs[f"y_pred_{part}"] = rows[ANSWER].to_numpy()
        if request["classes"]:
            inputs[f"y_proba_{part}"] = rows[request["probabilities"]].to_numpy()
    if request["classes"]:
        inputs["model_classes"] = request["classes"]
    inputs["feature_importance"] = pd.Series(ranks) if (ranks := request["importances"]) else None
    return inputs


def make_suite(key: str, request: Mapping[str, Any]) -> tuple[Any, dict[str, str]]:
    """A stock suite without what is not to run, and the checks taken out of it with the reason."""
    import deepchecks.tabular.suites as stock

    task, metric = request["task"], request["metric"]
    more = {"scorers": {metric: scorer(task, metric)}} if key == "model_evaluation" else {}
    suite = getattr(stock, key)(n_samples=request["sample_rows"], **more)
    skipped = {}
    for index, check in list(suite.checks.items()):
        kind, name = type(check).__name__, check.name()
        reason = request["left_out_kinds"].get(kind) or request["left_out_names"].get(
            letters(NAMES.get(kind, name))
        )
        if kind in request["answered"] or reason:
            suite.remove(index)
            if kind not in request["answered"]:
                skipped[name] = reason
        else:
            _slim(check, task, metric, request["sample_rows"])
            _fit_conditions(check, request["limits"])
    return suite, skipped


def letters(name: str) -> str:
    """A check's name by its letters and digits: spellings differ."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def run_suite(suite: Any, inputs: dict[str, Any]) -> list[Any]:
    """Run a suite; weak segments are searched in the holdout only.

    What the train part says about them is how well it was learnt by heart.
    """
    from deepchecks.tabular import Suite

    kind = "WeakSegmentsPerformance"
    single = {i: check for i, check in suite.checks.items() if type(check).__name__ == kind}
    for index in single:
        suite.remove(index)
    results = list(suite.run(**inputs).results) if suite.checks else []
    if single:
        more = Suite(suite.name, *single.values()).run(**inputs, run_single_dataset="Test")
        results += more.results
    return results


def fit_trees_once() -> None:
    """Let the three checks that ask for the same predictive power share one answer.

    Feature Label Correlation of either part and Feature Label Correlation Change fit the same
    trees on the same rows.
    """
    import pandas as pd
    from deepchecks import ppscore

    predictors = ppscore.predictors
    answers: dict[Any, Any] = {}

    def once(df: Any, y: Any, **options: Any) -> Any:
        try:
            rows = pd.util.hash_pandas_object(df).to_numpy().tobytes()
        except TypeError:  # a column of mixed types has no hash
            return predictors(df=df, y=y, **options)
        dtypes = tuple(map(str, df.dtypes))
        key = (tuple(df.columns), dtypes, rows, y, tuple(sorted(options.items())))
        if key not in answers:
            answers[key] = predictors(df=df, y=y, **options)
        return answers[key].copy()

    ppscore.predictors = once


def _slim(check: Any, task: str, metric: str, rows: int) -> None:
    """Bring down what dominates: 12,000 × 23 took 140 s, of it 118 s in these two checks.

    Both grow with the square of the rows: Gower distances of all pairs of rows, and decision trees
    with absolute error for all pairs of features.
    """
    kind = type(check).__name__
    if kind in ("OutlierSampleDetection", "WeakSegmentsPerformance"):
        check.n_samples = min(SLOW_ROWS, rows)
    if kind == "WeakSegmentsPerformance":
        check.n_top_features = SEGMENT_FEATURES
        if task != "binary":
            check.alternative_scorer = {metric: scorer(task, metric)}


def _fit_conditions(check: Any, limits: Mapping[str, Any]) -> None:
    """Conditions that a sound data set keeps, whatever the size of its holdout.

    An identifier that says nothing at all of the label (PPS 0) cannot be where things have several
    rows or the label changes over time; a mean error below 1 % of the RMSE is less than 10,000 rows
    can show. The other limits are told by the request.
    """
    match type(check).__name__:
        case "FeatureLabelCorrelation":
            _only(check, f"No feature alone gives the target away (PPS {GIVEAWAY_PPS})", _giveaway)
        case "SpecialCharacters":
            _only(check, f"Cells of punctuation alone at most {SPECIAL_SHARE:.0%}", _punctuation)
        case "IdentifierLabelCorrelation":
            check.clean_conditions()
            check.add_condition_pps_less_or_equal(IDENTIFIER_PPS)
        case "RegressionErrorDistribution":
            expected = f"Mean error within {MOVED} of the RMSE, {SYSTEMATIC_ERROR} at best"
            _only(check, expected, _systematic_error)
        case "IsSingleValue":
            check.ignore_columns = limits["constant_columns"] or None
        case "NewCategoryTrainTest":
            allowed = limits["new_categories"]
            _only(
                check,
                "No more new categories than those seen once foretell",
                lambda result: _new_categories(result, allowed),
            )
        case "FeatureLabelCorrelationChange":
            check.clean_conditions()
            check.add_condition_feature_pps_difference_less_than(limits["pps_change"])
        case "FeatureDrift":
            check.clean_conditions()
            check.add_condition_drift_score_less_than(
                max_allowed_categorical_score=limits["categorical_drift"],
                max_allowed_numeric_score=limits["numeric_drift"],
            )
        case "LabelDrift" | "PredictionDrift":
            check.clean_conditions()
            check.add_condition_drift_score_less_than(max_allowed_drift_score=limits["drift"])


def _only(check: Any, expected: str, condition: Callable[[Any], Any]) -> None:
    from deepchecks.core import ConditionCategory, ConditionResult

    def judged(value: Any) -> Any:
        category, details = condition(value)
        return ConditionResult(ConditionCategory[category], details)

    check.clean_conditions()
    check.add_condition(expected, judged)


def _giveaway(scores: Mapping[str, float]) -> tuple[str, str]:
    """Predictive power scores: nearly 1, or high and far above the next best feature's."""
    ranks = sorted(scores.items(), key=lambda item: -item[1])
    best, power = ranks[0]
    second = ranks[1][1] if len(ranks) > 1 else 0.0
    columns = [name for name, value in ranks if value >= GIVEAWAY_PPS]
    text = f"{best} has a predictive power of {power:.2f}, the next best {second:.2f}"
    if columns or (power >= DOMINANT_PPS and power - second >= LEAD):
        names = ", ".join(columns or [best])
        way = f"declare it as leakage: [{names}] if it is known only after the target"
        return "FAIL", f"{text}; {way}"
    return ("WARN" if power >= DOMINANT_PPS else "PASS"), text


def _punctuation(shares: Mapping[str, float]) -> tuple[str, str]:
    shares_text = {name: f"{share:.1%}" for name, share in shares.items() if share > 0}
    if not shares_text:
        return "PASS", f"{len(shares)} columns have none"
    worst = max(shares.values()) > SPECIAL_SHARE
    return ("FAIL" if worst else "WARN"), f"Cells of punctuation alone: {shares_text}"


def _systematic_error(value: Mapping[str, float]) -> tuple[str, str]:
    error = abs(value["Mean Prediction Error"])
    ratio = error / value["RMSE"] if value["RMSE"] else 0.0
    text = f"The mean error is {ratio:.2f} of the RMSE"
    if ratio >= MOVED:
        return (
            "FAIL",
            f"{text}: more than half of the squared error is one constant, so the target moved",
        )
    return ("WARN" if ratio >= SYSTEMATIC_ERROR else "PASS"), text


def _new_categories(result: Any, limits: Mapping[str, float]) -> tuple[str, str]:
    shares = result["Ratio of New Categories"].to_dict()
    categories = {
        name: f"{share:.2%}, limit {limits.get(str(name), 0.0):.2%}"
        for name, share in shares.items()
        if share > limits.get(str(name), 0.0)
    }
    if not categories:
        return "PASS", f"{len(shares)} columns keep their limit"
    words = "; ".join(f"{name}: {text}" for name, text in categories.items())
    return "FAIL", f"Rows with a new category: {words}"


def scorer(task: str, metric: str) -> Any:
    """A metric of ours as deepchecks takes it: a name, or a function of (model, features, truth),
    greater is better.

    For everything but binary they are functions of ours. deepchecks hands a multiclass truth over
    as (n, classes) of 0 and 1, and a sample or a segment may lack a class, where scikit-learn's
    scorers stop.
    """
    if task == "binary":
        return BINARY.get(metric, metric)
    if task == "multiclass":
        return lambda model, features, truth: _score_classes(metric, model, features, truth)
    return lambda model, features, truth: value_score(metric, truth, model.predict(features))


def _score_classes(metric: str, model: Any, features: Any, truth: Any) -> float:
    import numpy as np
    from deepchecks.core.errors import ModelValidationError

    try:
        answers = model.predict_proba(features)
    except ModelValidationError:
        # the simple and the perfect model know only the classes of their rows, and are certain
        answers = model.predict(features)
    return class_score(metric, np.asarray(truth).argmax(axis=1), np.asarray(answers))


def class_score(metric: str, truth: Any, probabilities: Any) -> float:
    """Metric of probabilities (n, k) for codes (n,), greater is better; 0.5 for one class alone."""
    import numpy as np
    from sklearn.metrics import f1_score, roc_auc_score

    best = probabilities.argmax(axis=1)
    if metric == "log_loss":
        right = probabilities[np.arange(len(truth)), truth]
        return float(np.log(np.clip(right, EPSILON, 1 - EPSILON)).mean())
    if metric == "accuracy":
        return float((best == truth).mean())
    if metric == "f1_macro":
        return float(f1_score(truth, best, average="macro"))
    codes = np.unique(truth)
    if len(codes) < 2:
        return 0.5
    return float(np.mean([roc_auc_score(truth == code, probabilities[:, code]) for code in codes]))


def value_score(metric: str, truth: Any, prediction: Any) -> float:
    """A metric of numbers, greater is better."""
    import numpy as np
    from sklearn import metrics

    if metric == "rmse":
        return -float(metrics.mean_squared_error(truth, prediction) ** 0.5)
    if metric == "mae":
        return -float(metrics.mean_absolute_error(truth, prediction))
    if metric == "r2":
        return float(metrics.r2_score(truth, prediction))
    return -float(metrics.mean_poisson_deviance(truth, np.maximum(prediction, LEAST_COUNT)))


def _plain(result: Any) -> dict[str, Any]:
    """A result as `report.json` has it."""
    if hasattr(result, "exception"):
        return {"header": result.header, "error": str(result.exception) or "No detail given."}
    return {
        "header": result.get_header(),
        "summary": re.sub(r"<a [^>]*>.*?</a>", "", result.get_metadata()["summary"]),
        "conditions": [
            {"name": c.name, "category": c.category.name, "details": c.details}
            for c in result.conditions_results
        ],
        "more": _weakest(result),
        "html": _text_of(result) if result.have_display() else "",
    }


def _text_of(result: Any) -> str:
    """deepchecks' displays as HTML, except that a plot uses the page's one plotly.js."""
    from deepchecks.core.serialization.check_result.html import DisplayItemsHandler

    class Displays(DisplayItemsHandler):  # type: ignore[misc]  # deepchecks ships no types
        @classmethod
        def handle_figure(cls, item: Any, index: int, **kwargs: Any) -> str:
            plot: str = item.to_html(
                include_plotlyjs=False,
                full_html=False,
                default_width="100%",
                default_height=420,
                validate=False,
                config={"responsive": True, "displayModeBar": False},
            )
            return f'<div class="plot">{plot}</div>'

    return "".join(Displays.handle_display(result.display, include_header=False))


def _weakest(result: Any) -> str:
    """Describe the weakest segment; return an empty text for other checks."""
    if type(result.check).__name__ != "WeakSegmentsPerformance":
        return ""
    worst = result.value["weak_segments_list"].iloc[0]
    parts = [
        f"{worst[f'Feature{n}']} {_range(worst[f'Feature{n} Range'])}"
        for n in (1, 2)
        if worst[f"Feature{n}"]
    ]
    return f"The segment: {' and '.join(parts)}, {worst['% of Data']:.3g} % of the rows."


def _range(values: Sequence[Any]) -> str:
    if isinstance(values, list):  # categories
        return "in " + ", ".join(str(value) for value in values)
    low, high = values
    if float("-inf") == low or float("inf") == high:
        return f"up to {high:.4g}" if float("-inf") == low else f"above {low:.4g}"
    return f"from {low:.4g} to {high:.4g}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
