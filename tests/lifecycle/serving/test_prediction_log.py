"""The log of a replica: on real Delta tables, with processes that are really killed."""

import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from deltalake import DeltaTable
from prometheus_client.parser import text_string_to_metric_families

from lifecycle.lake.logged_predictions import observe, read_log
from lifecycle.lake.prediction_log import LogTable
from lifecycle.lake.table import table_uri
from lifecycle.project import Project
from lifecycle.serving import prediction_log
from lifecycle.serving.metrics import Meters
from lifecycle.serving.prediction_log import PredictionLog
from lifecycle.serving.records import Answer, PredictionRequest
from lifecycle.serving.traffic import RoutedAnswer
from lifecycle.settings import Settings
from tests.support.log_writer import metrics_folder, model_of, open_log, said
from tests.support.small import ROOT

ROW = {"age": 41.5, "visits": 3, "city": "Rome"}
Make = Callable[..., Project]


@contextmanager
def logging_to(settings: Settings, project: Project) -> Iterator[tuple[Meters, PredictionLog]]:
    meters, log = open_log(settings, project)
    try:
        yield meters, log
    finally:
        log.close()
        meters.close()


def logged(settings: Settings, name: str = "small") -> pd.DataFrame:
    return read_log(settings, name, 0.0)


def numbers(meters: Meters) -> dict[str, float]:
    """Sums by metric, labels added up."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(meters.render().decode()):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return {
        name.removeprefix("lifecycle_prediction_log_").removesuffix("_total"): value
        for name, value in found.items()
    }


def start_writer(
    project: Project, settings: Settings, name: str, pace: float, seconds: float, mode: str = ""
) -> "subprocess.Popen[str]":
    arguments = [project.file, settings.home, name, pace, seconds, mode]
    command = [sys.executable, "-m", "tests.support.log_writer", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.component
def test_a_request_becomes_a_row_for_each_of_its_rows(
    make_project: Make, settings: Settings
) -> None:
    project = make_project()
    before = time.time()
    records = [ROW, ROW | {"age": None, "city": "Oslo"}]
    with logging_to(settings, project) as (_, log):
        log.add(
            "a", 1, said("a", [0.25, 0.75]), "team", [7, 8], PredictionRequest(2, records=records)
        )
        columns = {"age": np.array([30.0]), "visits": np.array([2]), "city": ["Lima"]}
        log.add("b", 1, said("b", [0.5]), "", None, PredictionRequest(1, columns=columns))
    found = logged(settings).set_index("id")
    assert sorted(found.index) == ["a-0", "a-1", "b-0"]
    second = found.loc["a-1"]
    assert (second["prediction"], second["input_visits"], second["input_city"]) == (0.75, 3, "Oslo")
    assert pd.isna(second["input_age"])
    assert (second["entity"], second["key"], second["status"]) == ("8", "team", "ok")
    assert (second["version"], second["digest"], second["role"]) == (1, "digest1", "champion")
    assert second["latency_ms"] == pytest.approx(2.0)
    assert before <= second["time"].timestamp() <= time.time()
    assert found.loc["b-0", ["input_age", "input_city", "prediction"]].tolist() == [30, "Lima", 0.5]
    assert pd.isna(found.loc["b-0", "entity"])
    assert found["predicted"].isna().all()


@pytest.mark.component
def test_a_failure_is_logged_without_a_prediction(make_project: Make, settings: Settings) -> None:
    project = make_project()
    with logging_to(settings, project) as (_, log):
        log.add(
            "a",
            2,
            RoutedAnswer("candidate", None, 0.004),
            "",
            None,
            PredictionRequest(2, records=[ROW, ROW]),
        )
        log.add("b", 1, said("b", [0.5]), "", None, PredictionRequest(1, records=[ROW]))
    found = logged(settings)
    failed = found[found["status"] == "error"]
    assert failed["id"].tolist() == ["a-0", "a-1"]
    assert failed["prediction"].isna().all()
    seen = observe(settings, project, 0.0)
    assert seen[2, "candidate"].requests == seen[2, "candidate"].errors == 1
    assert seen[2, "candidate"].predictions == ()
    assert (seen[1, "champion"].errors, seen[1, "champion"].ids) == (0, ("b-0",))


@pytest.mark.component
def test_multiclass_keeps_the_class_and_all_probabilities(
    make_project: Make, settings: Settings
) -> None:
    columns = {
        "age": {"type": "number", "nullable": True},
        "grade": {"type": "category", "categories": ["a", "b", "c"]},
    }
    project = make_project(
        name="graded", task="multiclass", target="grade", entity=None, contract={"columns": columns}
    )
    answer = Answer(
        id="a",
        model=model_of("graded"),
        predictions=np.array([[0.2, 0.7, 0.1], [0.5, 0.25, 0.25]]),
        classes=("a", "b", "c"),
        chosen=["b", "a"],
    )
    with logging_to(settings, project) as (_, log):
        asked = PredictionRequest(2, records=[{"age": 1}, {"age": 2}])
        log.add("a", 1, RoutedAnswer("champion", answer, 0.001), "", None, asked)
        log.add("f", 1, RoutedAnswer("champion", None, 0.001), "", None, asked)
    found = logged(settings, "graded").set_index("id")
    assert found.loc["a-0", "predicted"] == "b"
    assert found.loc["a-0", "prediction"] == 0.7
    assert found.loc["a-1", "probabilities"].tolist() == [0.5, 0.25, 0.25]
    assert found.loc["f-0", ["predicted", "probabilities"]].isna().all()
    assert observe(settings, project, 0.0)[1, "champion"].predictions == ("b", "a")


@pytest.mark.component
def test_odd_values_are_logged_as_the_contract_reads_them(
    make_project: Make, settings: Settings
) -> None:
    project = make_project()
    odd = [{"age": "41", "visits": 3.0, "city": 5}, {"age": [], "visits": 2**70, "city": None}]
    with logging_to(settings, project) as (meters, log):
        log.add("a", 1, said("a", [0.1, 0.2]), "", None, PredictionRequest(2, records=odd))
        log.add(
            "b", 1, said("b", [0.1]), "", None, PredictionRequest(2, records=[ROW, ROW])
        )  # no such answer
        log.add("c", 1, said("c", [0.1]), "", None, PredictionRequest(1, records=[ROW]))
        log.close()
        assert numbers(meters)["dropped_rows"] == 2
    found = logged(settings).set_index("id")
    assert sorted(found.index) == ["a-0", "a-1", "c-0"]
    assert found.loc["a-0", ["input_age", "input_visits", "input_city"]].tolist() == [41.0, 3, "5"]
    assert found.loc["a-1", ["input_age", "input_visits", "input_city"]].isna().all()


@pytest.mark.component
def test_personal_data_are_hashed_or_left_out(make_project: Make, settings: Settings) -> None:
    columns: dict[str, Any] = {
        "customer": {"type": "string", "pii": "hash"},
        "email": {"type": "string", "pii": "hash"},
        "phone": {"type": "integer", "pii": "drop"},
        "visits": {"type": "integer"},
        "bought": {"type": "integer"},
    }
    project = make_project(contract={"columns": columns})
    planted = {"email": "planted@example.org", "phone": 5551234567, "visits": 90210}
    with logging_to(settings, project) as (_, log):
        asked = PredictionRequest(1, records=[planted])
        log.add("a", 1, said("a", [0.5]), "", ["Planted Person"], asked)
        log.add("b", 1, said("b", [0.5]), "", None, asked)
    found = logged(settings).set_index("id")
    text = found.to_csv() + "".join(found.columns)
    files = [f for f in Path(table_uri(settings, "small", "")).rglob("*") if f.is_file()]
    stored = b"".join(file.read_bytes() for file in files)
    assert "90210" in text
    for secret in ("planted@example.org", "5551234567", "Planted Person", "phone"):
        assert secret not in text
        assert secret.encode() not in stored
    assert (5551234567).to_bytes(8, "little") not in stored
    assert len(found.loc["a-0", "entity"]) == 64
    assert found["input_email__hash"].nunique() == 1


@pytest.mark.system
def test_what_a_kill_loses_is_less_than_a_second_and_is_counted(
    make_project: Make, settings: Settings
) -> None:
    project = make_project()
    pace = 1000
    writer = start_writer(project, settings, "w", pace, 60)
    assert writer.stdout is not None
    for line in writer.stdout:
        if int(line) > 2.6 * pace:
            break
    writer.kill()
    printed = int([line, *writer.stdout.readlines()][-1])
    writer.wait()
    writer.stdout.close()
    there = len(logged(settings))
    with logging_to(settings, project) as (meters, log):
        assert numbers(meters)["answered_rows"] >= 2 * printed
        log._sweep()
        found = numbers(meters)
        assert found["logged_rows"] == there
        assert found["lost_rows"] == found["answered_rows"] - there - found["dropped_rows"]
        assert found["dropped_rows"] == 0
        assert found["lost_rows"] <= 2 * pace * 1.5  # a second, and what a busy machine adds
        assert not [f for f in metrics_folder(settings, project).glob("*.counts")][1:]


@pytest.mark.system
def test_a_kill_between_commit_and_count_loses_nothing(
    make_project: Make, settings: Settings
) -> None:
    project = make_project()
    writer = start_writer(project, settings, "w", 1000, 60, "dies-after-commit")
    output, _ = writer.communicate()
    assert writer.returncode == -9
    there = len(logged(settings))
    assert 0 < there <= 2 * int(output.split()[-1]) + 1000
    with logging_to(settings, project) as (meters, log):
        assert numbers(meters)["logged_rows"] == 0
        log._sweep()
        found = numbers(meters)
        assert found["logged_rows"] == there
        assert found["lost_rows"] == found["answered_rows"] - there


@pytest.mark.system
def test_two_processes_at_full_speed_lose_nothing_uncounted(
    make_project: Make, settings: Settings
) -> None:
    project = make_project()
    writers = [start_writer(project, settings, name, 1e9, 2.5) for name in "pq"]
    asked = [int(writer.communicate()[0].split()[-1]) for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0]
    found = logged(settings)
    assert not found["id"].duplicated().any()
    assert {name[0] for name in found["id"]} == {"p", "q"}
    with logging_to(settings, project) as (meters, _):
        counted = numbers(meters)
    assert counted["answered_rows"] == 2 * sum(asked)
    assert counted["dropped_rows"] > 0
    assert counted["logged_rows"] == len(found)
    assert counted["answered_rows"] == counted["logged_rows"] + counted["dropped_rows"]
    assert counted["lost_rows"] == 0


@pytest.mark.component
def test_an_unwritable_lake_costs_bounded_memory_and_recovers(
    make_project: Make,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    project = make_project()
    monkeypatch.setattr(prediction_log, "MAX_ROWS", 100)
    place = Path(settings.lake)
    place.parent.mkdir(parents=True)
    place.write_text("a file where the lake should be")
    meters, log = open_log(settings, project)
    try:
        with caplog.at_level(logging.WARNING):
            for number in range(300):
                asked = PredictionRequest(1, records=[ROW])
                log.add(f"r{number}", 1, said("r", [0.5]), "", None, asked)
            time.sleep(2.5)
        assert numbers(meters)["dropped_rows"] == 200
        assert [r.getMessage() for r in caplog.records if "not logged" in r.message][1:] == []
        assert "100 rows wait" in caplog.text
        place.unlink()
    finally:
        log.close()
    assert numbers(meters)["logged_rows"] == len(logged(settings)) == 100
    meters.close()


@pytest.mark.component
def test_rows_beyond_the_memory_bound_are_given_up(
    make_project: Make, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction_log, "MAX_BYTES", 10_000)
    project = make_project()
    with logging_to(settings, project) as (meters, log):
        long = ROW | {"city": "x" * 20_000}
        log.add("long", 1, said("long", [0.5]), "", None, PredictionRequest(1, records=[long]))
        log._stop.wait(0.6)
        log.add("short", 1, said("short", [0.5]), "", None, PredictionRequest(1, records=[ROW]))
        log.close()
        assert numbers(meters)["dropped_rows"] == 1
    assert logged(settings)["id"].tolist() == ["short-0"]


@pytest.mark.component
def test_an_append_that_came_through_although_it_failed_is_not_repeated(
    make_project: Make, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project()
    append = LogTable.append
    failures = iter([True])

    def unsure(self: LogTable, *arguments: Any) -> int:
        commit = append(self, *arguments)
        if next(failures, False):
            raise OSError("the answer got lost on its way")
        return commit

    monkeypatch.setattr(LogTable, "append", unsure)
    with logging_to(settings, project) as (meters, log):
        log.add("a", 1, said("a", [0.5]), "", None, PredictionRequest(1, records=[ROW]))
        for _ in range(60):
            log._stop.wait(0.05)
            if log._unsure:
                break
        log.add("b", 1, said("b", [0.5]), "", None, PredictionRequest(1, records=[ROW]))
        log.close()
        assert numbers(meters)["logged_rows"] == 2
    assert logged(settings)["id"].tolist() == ["a-0", "b-0"]


@pytest.mark.system
def test_the_table_is_tidied_in_a_process_of_its_own(
    make_project: Make, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # commits: the empty table, its columns, and a row each; the last one has it tidied
    monkeypatch.setattr(prediction_log, "TIDY_EVERY", 4)
    project = make_project()
    with logging_to(settings, project) as (_, log):
        for number in range(3):
            asked = PredictionRequest(1, records=[ROW])
            log.add(f"r{number}", 1, said("r", [0.5]), "", None, asked)
            log._stop.wait(1.1)
        assert log._tidying is not None
        assert log._tidying.wait(60) == 0
    assert len(DeltaTable(table_uri(settings, "small", "prediction_log")).file_uris()) == 1
    assert len(logged(settings)) == 3
