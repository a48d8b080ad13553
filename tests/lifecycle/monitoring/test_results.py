"""Results of monitoring as rows of two Delta tables."""

from collections.abc import Callable

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from lifecycle.errors import BackendError
from lifecycle.lake.rows import replace_rows
from lifecycle.lake.table import table_uri
from lifecycle.monitoring.monitor import monitor_windows
from lifecycle.monitoring.results import ALARMS, METRICS
from lifecycle.project import Project
from lifecycle.records import Monitored
from lifecycle.settings import Settings
from tests.lifecycle.monitoring.test_monitor import released, scored
from tests.support.small import small_frame

SCHEMA = pa.schema({"window": pa.string(), "version": pa.int64(), "value": pa.float64()})


def rows(window: str, *values: float) -> pa.Table:
    return pa.table(
        {"window": [window] * len(values), "version": [1] * len(values), "value": list(values)},
        schema=SCHEMA,
    )


def read(uri: str) -> pd.DataFrame:
    return DeltaTable(uri).to_pandas()


def test_rows_replace_those_with_their_key(settings: Settings) -> None:
    uri = table_uri(settings, "small", "numbers")
    for window, *values in (("it's", 1.0, 2.0), ("b", 3.0), ("it's", 4.0), ("it's", 4.0)):
        replace_rows(uri, rows(window, *values), {"window": window, "version": 1})
    assert sorted(zip(*read(uri)[["window", "value"]].to_numpy().T, strict=True)) == [
        ("b", 3.0),
        ("it's", 4.0),
    ]
    replace_rows(uri, rows("b"), {"window": "b", "version": 1})
    assert read(uri)["window"].tolist() == ["it's"]
    with pytest.raises(BackendError, match="cannot write the table"):
        replace_rows("/proc/none/numbers", rows("b"), {"window": "b", "version": 1})


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
    metrics = read(table_uri(settings, project.name, METRICS))
    assert set(metrics["comparison"]) == {"reference", "window before", "release"}
    of_city = metrics.query("column == 'city' and comparison == 'reference'").iloc[0]
    assert of_city["value"] > of_city["limit"]
    assert of_city["alarm"]
    quality = metrics.query(f"metric == '{project.metric}'").iloc[0]
    assert quality["low"] <= quality["value"] <= quality["high"]
    assert quality["column"] == project.target
    assert found.before[-1] is not None

    alarms = read(table_uri(settings, project.name, ALARMS))
    assert set(zip(alarms["cause"], alarms["comparison"], strict=True)) >= {
        ("features", "reference"),
        ("features", "window before"),
    }
    assert set(alarms["window"]) == {"3"}
    again = monitored()
    assert again == found
    columns = ["comparison", "slice", "column", "metric"]
    pd.testing.assert_frame_equal(
        read(table_uri(settings, project.name, METRICS)).sort_values(columns, ignore_index=True),
        metrics.sort_values(columns, ignore_index=True),
    )
    assert len(read(table_uri(settings, project.name, ALARMS))) == len(alarms)
