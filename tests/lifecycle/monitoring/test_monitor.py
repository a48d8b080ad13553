"""Monitoring on real Delta tables: from scored windows to a decision and a page."""

import re
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from deltalake import DeltaTable

from lifecycle.errors import DataError
from lifecycle.features.encode import labels
from lifecycle.lake.table import table_uri
from lifecycle.lake.write import write_version
from lifecycle.monitoring.monitor import monitor_windows
from lifecycle.monitoring.results import ALARMS, METRICS
from lifecycle.monitoring.scored import categorical_features, open_window
from lifecycle.project import Project
from lifecycle.records import Evaluation, ModelVersion, Monitored, Scored, Window
from lifecycle.settings import Settings
from lifecycle.training.evaluation.evaluate import Measurement, evaluate
from tests.support.small import small_frame

MODEL = ModelVersion(
    name="small", version=1, uri="models:/small/1", run_id="", digest="d1", identity="i1"
)


def answers(frame: pd.DataFrame) -> np.ndarray:
    """A fixed model: older visitors from Rome buy."""
    age = frame["age"].fillna(40).to_numpy(dtype=float)
    score = age / 60 + (frame["city"] == "Rome") * 0.5 + frame["visits"].to_numpy() / 11
    return 1 / (1 + np.exp(-4 * (score.to_numpy() - 1.6)))


def scored(
    settings: Settings, frame: pd.DataFrame, first: int, model: ModelVersion = MODEL
) -> Scored:
    frame = frame.reset_index(drop=True)
    predictions = pd.DataFrame(
        {"customer": frame["customer"], "row": np.arange(len(frame)), "prediction": answers(frame)}
    ).iloc[::-1]  # Ray Data keeps no order
    note = {"window": str(first)}
    return Scored(
        dataset=write_version(frame, table_uri(settings, "small", f"current{first}"), note=note),
        predictions=write_version(
            predictions, table_uri(settings, "small", f"predictions{first}"), note=note
        ),
        model=model,
        window=Window(first=first, last=first),
        engine="process",
    )


def released(project: Project, frame: pd.DataFrame) -> Evaluation:
    return evaluate(
        labels(frame, project), answers(frame), Measurement("binary", 17), "h", "v1 at release"
    )


def test_a_quiet_window_asks_for_nothing(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    project = make_project()
    frame = small_frame(800)
    found = monitor_windows(
        project,
        settings,
        scored(settings, frame[:400], 1),
        [scored(settings, frame[400:], 2)],
        released(project, frame[:400]),
    )
    assert found.decision.passed, found.decision.reasons
    assert found.drift[0].drifted == ()
    assert found.quality[0] is not None
    assert found.quality[0].subject == "small v1 in window 2"
    html = found.report.read_text()
    assert "Nothing to do" in html
    assert not re.findall(r'(?:src|href)="(?!data:)', html)


def test_a_shifted_window_asks_for_retraining_and_names_the_columns(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    project = make_project()
    frame = small_frame(800)
    current = frame[400:].assign(age=lambda f: f["age"].where(f.index % 2 == 0), city="Lima")
    window = scored(settings, current, 2)
    reference = scored(settings, frame[:400], 1)
    found = monitor_windows(project, settings, reference, [window], released(project, frame[:400]))
    assert not found.decision.passed
    assert {column.column for column in found.drift[0].drifted} == {"age", "city"}
    html = found.report.read_text()
    assert "Retraining is asked for" in html
    assert "50% missing" in html
    assert html.count("<figure>") == 3  # both columns and the predictions
    again = monitor_windows(project, settings, reference, [window], released(project, frame[:400]))
    assert again == found
    assert again.report.read_text() == html


def test_labels_that_have_not_arrived_give_no_quality(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    found = one_window(make_project(), settings, small_frame().drop(columns="bought"))
    assert found.quality == (None,)
    assert found.decision.passed
    assert "No labels to measure quality with yet." in found.decision.reasons[0]


def test_few_labels_are_too_few_to_tell(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    few = small_frame().assign(bought=pd.array([1] * 5 + [None] * 395, dtype="Int64"))
    found = one_window(make_project(), settings, few)
    assert found.decision.passed
    assert "Quality: too few rows to tell: 5, and" in found.decision.reasons[0]


def test_labels_of_one_class_are_measured_and_their_drift_is_told(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    project = make_project(retraining={"triggers": ["drift", "quality"]})
    found = one_window(project, settings, small_frame().assign(bought=0))
    words = found.decision.reasons[0]
    assert "roc_auc has no value on the 400 labelled rows" in words
    assert re.search(r"log_loss [\d.]+ \(95 % CI .*\) against [\d.]+ at release", words)
    assert "bought drifted (mean 0.5, now 0 of 400 labels; cramers_v" in words
    assert not found.decision.passed
    assert found.decision.reasons[-1].endswith(
        "by drift, which the project says is reason enough (retraining.triggers)."
    )
    html = found.report.read_text()
    assert html.count("<figure>") == 2  # predictions and labels
    assert "no labels yet" not in html


def one_window(project: Project, settings: Settings, current: pd.DataFrame) -> Monitored:
    frame = small_frame()
    reference, window = scored(settings, frame, 1), scored(settings, current, 2)
    return monitor_windows(project, settings, reference, [window], released(project, frame))


@pytest.mark.parametrize("rows", [1, 3, 99])
def test_a_tiny_window_says_nothing(
    make_project: Callable[..., Project], settings: Settings, rows: int
) -> None:
    project = make_project()
    frame = small_frame(400)
    odd = frame[:rows].assign(age=900.0, visits=10, city="Lima")
    found = one_window(project, settings, odd)
    assert found.decision.passed
    assert (
        f"too few rows to tell: {rows}, and monitoring.min_rows asks for 100"
        in (found.decision.reasons[0])
    )
    assert found.decision.reasons[-1] == "Nothing to do: no window has rows enough to tell."


def test_only_the_latest_windows_are_looked_at(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    project = make_project(monitoring={"windows": 2, "violations": 2})
    frame = small_frame(400)
    windows = [scored(settings, frame.assign(visits=i), i) for i in (2, 3, 4)]
    found = monitor_windows(
        project, settings, scored(settings, frame, 1), windows, released(project, frame)
    )
    assert [str(report.window) for report in found.drift] == ["3", "4"]


def test_predictions_of_other_rows_or_another_model_are_refused(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    project = make_project()
    frame = small_frame(100)
    good = scored(settings, frame, 1)
    short = good.model_copy(update={"predictions": scored(settings, frame[:50], 2).predictions})
    with pytest.raises(DataError, match="50 predictions, which are not those of the 100 rows"):
        open_window(short, project)
    other = good.model_copy(update={"model": MODEL.model_copy(update={"digest": "d2"})})
    with pytest.raises(ValueError, match="two models cannot be compared"):
        monitor_windows(project, settings, good, [other], released(project, frame))
    with pytest.raises(ValueError, match="no window"):
        monitor_windows(project, settings, good, [], released(project, frame))


def test_which_features_are_categories(health: Project) -> None:
    features = pd.DataFrame({"plan": [1, 2], "income": [1.0, 2.0], "made_by_hook": ["a", "b"]})
    assert categorical_features(features, health) == ("plan", "made_by_hook")


def rows_of(uri: str) -> pd.DataFrame:
    return DeltaTable(uri).to_pandas()


def test_each_window_has_its_rows_once(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    project = make_project(monitoring={"windows": 1})
    frame = small_frame(800)
    reference, calm = scored(settings, frame[:400], 1), scored(settings, frame[400:], 2)
    moved = scored(settings, frame[400:].assign(city="Lima"), 3)

    def monitored() -> Monitored:
        windows = [calm, moved]
        return monitor_windows(
            project, settings, reference, windows, released(project, frame[:400])
        )

    found = monitored()
    metrics = rows_of(table_uri(settings, project.name, METRICS))
    assert set(metrics["comparison"]) == {"reference", "window before", "release"}
    of_city = metrics.query("column == 'city' and comparison == 'reference'").iloc[0]
    assert of_city["value"] > of_city["limit"]
    assert of_city["alarm"]
    quality = metrics.query(f"metric == '{project.metric}'").iloc[0]
    assert quality["low"] <= quality["value"] <= quality["high"]
    assert quality["column"] == project.target
    assert found.before[-1] is not None

    alarms = rows_of(table_uri(settings, project.name, ALARMS))
    assert [*zip(alarms["cause"], alarms["comparison"], strict=True)] == [
        ("stuck value", "reference")  # one alarm, though it moved since the window before, too
    ]
    assert set(alarms["window"]) == {"3"}
    again = monitored()
    assert again == found
    columns = ["comparison", "slice", "column", "metric"]
    pd.testing.assert_frame_equal(
        rows_of(table_uri(settings, project.name, METRICS)).sort_values(columns, ignore_index=True),
        metrics.sort_values(columns, ignore_index=True),
    )
    assert len(rows_of(table_uri(settings, project.name, ALARMS))) == len(alarms)
