"""Windows over the prediction log: real log, real ledger, real tables; no replica."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from deltalake import DeltaTable

from lifecycle.errors import ProjectError
from lifecycle.governance.folder import open_folder
from lifecycle.governance.subject import Subject
from lifecycle.governance.tables import erase_versions
from lifecycle.labels.delivery import deliver, label_source
from lifecycle.lake.prediction_log import LogTable
from lifecycle.lake.read import read_version
from lifecycle.lake.table import table_uri
from lifecycle.monitoring import live
from lifecycle.monitoring.live import cut, due_stretches, live_windows, operations
from lifecycle.monitoring.live_monitor import monitor_log
from lifecycle.monitoring.results import ALARMS, METRICS
from lifecycle.monitoring.scored import open_window
from lifecycle.project import Project
from lifecycle.serving.prediction_log import Entry, LogRows
from lifecycle.serving.records import PredictionRequest
from lifecycle.settings import Settings
from tests.lifecycle.monitoring.test_monitor import MODEL, answers, released, scored
from tests.support.graded import graded_project
from tests.support.log_writer import said
from tests.support.small import SMALL, small_frame

HOUR = 3600
START = 1_800_000_000 // HOUR * HOUR
"""Unix seconds: an hour begins."""
Make = Callable[..., Project]


def log_answers(
    settings: Settings,
    project: Project,
    frame: pd.DataFrame,
    start: float,
    name: str,
    *,
    key: str = "shop",
) -> list[str]:
    """Log a request per row over half an hour, as a replica does; returns the ids."""
    log = LogTable(table_uri(settings, project.name, "prediction_log"))
    numbers = answers(frame)
    ids = [f"{int.from_bytes(name.encode()):x}{at:06x}".zfill(28) for at in range(len(frame))]
    entries = []
    for at, row in enumerate(frame.to_dict("records")):
        inputs = {column: row[column] for column in ("age", "visits", "city")}
        outcome = said(ids[at], [numbers[at]])
        request = PredictionRequest(1, records=[inputs])
        when = int((start + at * 1800 / len(frame)) * 1e9)
        entries.append(Entry(ids[at], when, 1, outcome, key, [row["customer"]], request))
    log.append(LogRows(project, b"k" * 32).table(entries), name, len(entries))
    return [f"{each}-0" for each in ids]


def label(settings: Settings, project: Project, ids: list[str], values: pd.Series) -> None:
    file = project.folder / "labels.csv"
    pd.DataFrame({"prediction_id": ids, "bought": values.to_numpy()}).to_csv(file, index=False)
    deliver(project, settings, label_source(project, str(file)))


def rows_of(settings: Settings, table: str) -> pd.DataFrame:
    return DeltaTable(table_uri(settings, "small", table)).to_pandas()


@pytest.fixture
def project(make_project: Make) -> Project:
    return make_project(monitoring={"live": "1 hour"})


def test_what_was_answered_and_came_true_ends_in_the_tables_of_alarms(
    project: Project, settings: Settings
) -> None:
    frame = small_frame(1200)
    reference = scored(settings, frame[:400], 1)
    at_release = released(project, frame[:400])
    quiet, moved = frame[400:800], frame[800:].assign(city="Lima")
    log_answers(settings, project, quiet, START, "a")
    log_answers(settings, project, small_frame(50), START + 60, "smoke", key="internal.smoke")
    ids = log_answers(settings, project, moved, START + HOUR, "b")

    before_its_end = monitor_log(project, settings, reference, at_release, START + HOUR + 30)
    assert before_its_end == [], "the hour has not settled yet"
    later = project.monitoring.model_copy(update={"live_delay": "5 minutes"})
    patient = project.model_copy(update={"monitoring": later})
    assert monitor_log(patient, settings, reference, at_release, START + HOUR + 90) == []
    (first,) = monitor_log(project, settings, reference, at_release, START + HOUR + 90)
    assert first.decision.passed
    assert first.drift[0].current_rows == 400, "without the smoke test"
    assert first.quality == (None,)
    (second,) = monitor_log(project, settings, reference, at_release, START + 2 * HOUR + 90)
    assert {column.column for column in second.drift[0].drifted} == {"city"}
    assert second.before[0] is not None, "and with the hour before"
    assert second.estimates[0] is not None
    assert monitor_log(project, settings, reference, at_release, START + 2 * HOUR + 90) == []

    # labels of the second hour come, and say that the model is wrong there
    label(settings, project, ids, 1 - moved["bought"])
    (third,) = monitor_log(project, settings, reference, at_release, START + 2 * HOUR + 90)
    assert third.quality[0] is not None
    assert third.quality[0].rows == 400
    assert not third.decision.passed
    alarms = rows_of(settings, ALARMS)
    assert set(alarms["source"]) == {"live"}
    assert set(alarms["cause"]) == {"stuck value"}, "one alarm for all that the broken column did"
    window = str(third.drift[0].window)
    assert window == "2027-01-15T09:00Z to 2027-01-15T09:59Z"
    metrics = rows_of(settings, METRICS).query("window == @window")
    told = metrics[metrics["source"] == "operations"].set_index("metric")["value"]
    assert told["requests"] == told["labels"] == 400
    assert told["error_share"] == told["fallback_share"] == 0
    assert told["latency_p99_ms"] == pytest.approx(2, rel=0.02)
    # a correction of some labels is seen as well
    label(settings, project, ids[:200], moved["bought"][:200])
    (fourth,) = monitor_log(project, settings, reference, at_release, START + 2 * HOUR + 90)
    assert fourth.quality != third.quality


def test_windows_of_rows_follow_each_other_and_lose_none(
    make_project: Make, settings: Settings
) -> None:
    project = make_project(monitoring={"live": "150 rows"})
    log_answers(settings, project, small_frame(400), START, "a")
    now = START + HOUR
    stretches = due_stretches(project, settings, MODEL, now)
    windows = [cut(project, settings, MODEL, stretch) for stretch in stretches]
    assert [window.scored.dataset.rows for window in windows if window] == [150, 150]
    assert due_stretches(project, settings, MODEL, now) == [], "100 rows wait for 50 more"
    log_answers(settings, project, small_frame(60), START + 1900, "b")
    (third,) = due_stretches(project, settings, MODEL, now)
    assert cut(project, settings, MODEL, third)
    kept = live_windows(project, settings, MODEL, 10)
    ids = pd.concat([read_version(each.scored.dataset)["prediction_id"] for each in kept])
    assert len(ids) == ids.nunique() == 450
    first = read_version(kept[0].scored.predictions).sort_values("row")
    np.testing.assert_allclose(first["prediction"].sum(), answers(small_frame(400)[:150]).sum())


def test_a_large_window_is_sampled_and_the_same_window_is_cut_once(
    project: Project, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MAX_ROWS", 200)
    log_answers(settings, project, small_frame(800), START, "a")
    *_, stretch = due_stretches(project, settings, MODEL, START + HOUR + 90)
    window = cut(project, settings, MODEL, stretch)
    assert window
    assert 140 < window.scored.dataset.rows < 260
    assert cut(project, settings, MODEL, stretch) == window
    counts = {row.metric: row.value for row in operations(project, settings, stretch)}
    assert counts["requests"] == 800, "operations count all rows"


def test_an_erased_person_leaves_a_window_and_its_predictions(
    project: Project, settings: Settings
) -> None:
    log_answers(settings, project, small_frame(400), START, "a")
    *_, stretch = due_stretches(project, settings, MODEL, START + HOUR + 90)
    window = cut(project, settings, MODEL, stretch)
    assert window
    subject = Subject(columns=frozenset({"customer"}), texts=frozenset({"1000"}))
    for table in (live.LIVE, live.LIVE_PREDICTIONS):
        uri = table_uri(settings, "small", table)
        erase_versions(uri, open_folder(uri), subject, "by letter 17")
    (left,) = live_windows(project, settings, MODEL, 1)
    opened = open_window(left.scored, project)
    assert opened.entity is not None
    assert len(opened.entity) == len(opened.prediction) == 398
    assert "1000" not in opened.entity


def test_requests_that_the_champion_answered_instead_are_fallbacks(
    project: Project, settings: Settings
) -> None:
    frame = small_frame(100)
    log_answers(settings, project, frame, START, "a")
    table = LogTable(table_uri(settings, "small", "prediction_log"))
    failed = said("a0", [0.5], role="candidate")._replace(answer=None)
    request = PredictionRequest(1, records=[{"age": 1.0, "visits": 1, "city": "Rome"}])
    lines = [
        Entry(f"a{at}", int((START + 1) * 1e9), 2, failed, "shop", None, request) for at in range(5)
    ]
    table.append(LogRows(project, b"k" * 32).table(lines), "candidate", 5)
    *_, stretch = due_stretches(project, settings, MODEL, START + HOUR + 90)
    counts = {row.metric: row.value for row in operations(project, settings, stretch)}
    assert (counts["requests"], counts["fallback_share"]) == (100, 0.05)
    assert counts["error_share"] == 0


def test_an_input_that_the_log_does_not_keep_is_refused(make_project: Make) -> None:
    columns = SMALL["contract"]["columns"]
    columns = columns | {"city": columns["city"] | {"pii": "hash"}}
    with pytest.raises(ProjectError, match=r"monitoring\.live: .* input 'city' .*\(pii: hash\)"):
        make_project(monitoring={"live": "1 hour"}, contract={"columns": columns})


def test_a_length_that_is_none_is_refused(make_project: Make) -> None:
    with pytest.raises(ProjectError, match=r"monitoring\.live"):
        make_project(monitoring={"live": "now and then"})


def test_a_window_of_several_classes_has_their_probabilities(
    make_project: Make, settings: Settings
) -> None:
    project = graded_project(make_project, monitoring={"live": "1 hour"})
    table = LogTable(table_uri(settings, "small", "prediction_log"))
    request = PredictionRequest(2, records=[{"age": 41.5, "visits": 3, "city": "Rome"}] * 2)
    outcome = said("a", [[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
    entry = Entry("a", START * 10**9, 1, outcome, "shop", None, request)
    table.append(LogRows(project, b"k" * 32).table([entry]), "a", 2)
    *_, stretch = due_stretches(project, settings, MODEL, START + HOUR + 90)
    window = cut(project, settings, MODEL, stretch)
    assert window
    opened = open_window(window.scored, project)
    assert opened.prediction.tolist() == [[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]
    assert opened.entity is None, "the requests did not say it"
    assert opened.ids is not None
    assert opened.ids.tolist() == ["a-0", "a-1"]


def test_a_project_with_a_time_that_requests_do_not_say(
    make_project: Make, settings: Settings
) -> None:
    columns = SMALL["contract"]["columns"] | {"seen": {"type": "datetime"}}
    days = pd.date_range("2024-01-01", periods=100)
    frame = small_frame(800).assign(seen=lambda f: days[f.index // 8])
    project = make_project(
        frame,
        contract={"columns": columns},
        time={"column": "seen", "period": "day"},
        split={"holdout_periods": 10},
        monitoring={"live": "1 hour"},
    )
    reference, at_release = scored(settings, frame[:400], 1), released(project, frame[:400])
    moved = frame[400:].assign(city="Lima")
    log_answers(settings, project, moved[:200], START, "a")
    ids = log_answers(settings, project, moved[200:], START + HOUR, "b")
    label(settings, project, ids, 1 - moved["bought"][200:])
    (first, second) = monitor_log(project, settings, reference, at_release, START + 2 * HOUR + 90)
    assert {column.column for column in first.drift[0].drifted} == {"city"}
    assert first.quality == (None,), "labels of an entity alone are of no row"
    assert second.quality[0] is not None
    assert second.quality[0].rows == 200
