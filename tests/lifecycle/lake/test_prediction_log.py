"""The table of the prediction log: appended by many, changed in its columns, read by time."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from lifecycle.errors import BackendError, DataError
from lifecycle.governance.tables import count_before, delete_before
from lifecycle.lake.inventory import inventory
from lifecycle.lake.logged_predictions import observe, open_log, read_log
from lifecycle.lake.prediction_log import SCHEMA, LogTable, input_fields, tidy
from lifecycle.lake.table import table_uri
from lifecycle.project import ColumnSpec, Project
from lifecycle.settings import Settings

DAY = 86_400.0
NOON = 1_700_049_600.0
"""2023-11-15 12:00 UTC."""


@pytest.fixture
def log(settings: Settings) -> LogTable:
    return LogTable(table_uri(settings, "small", "prediction_log"))


def rows(ids: Sequence[str], seconds: Sequence[float] | float = NOON, **columns: Any) -> pa.Table:
    """Rows of the log; a column is a value for all of them or one for each."""
    count = len(ids)
    stamps = np.broadcast_to(np.asarray(seconds) * 1e6, count).astype("int64")
    times = pa.array(stamps).cast(pa.timestamp("us", "UTC"))
    values: Mapping[str, Any] = {
        "model": "small",
        "version": 1,
        "role": "champion",
        "status": "ok",
        "latency_ms": 2.0,
        "prediction": 0.5,
    } | columns
    made = {
        name: pa.array(value if isinstance(value, list) else [value] * count, type=_type(name))
        for name, value in values.items()
    }
    return pa.table({"id": list(ids), "time": times, "date": times.cast(pa.date32())} | made)


def _type(name: str) -> pa.DataType | None:
    return SCHEMA.field(name).type if name in SCHEMA.names else None


def test_many_writers_at_once_lose_nothing(settings: Settings, log: LogTable) -> None:
    def write(writer: int) -> None:
        table = LogTable(log.uri)
        for turn in range(5):
            table.append(rows([f"{writer}.{turn}-0"]), f"w{writer}", turn + 1)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(6)))
    expected = {f"{writer}.{turn}-0" for writer in range(6) for turn in range(5)}
    assert set(read_log(settings, "small", 0.0)["id"]) == expected
    assert [log.committed(f"w{writer}") for writer in range(6)] == [5] * 6
    assert log.committed("nobody") == 0


def test_a_new_input_is_added_and_a_changed_type_gets_a_column(
    settings: Settings, log: LogTable
) -> None:
    other = LogTable(log.uri)
    log.append(rows(["a-0"], input_age=41.5), "w", 1)
    other.append(rows(["b-0"], input_age=30.0, input_city="Rome"), "v", 1)
    log.append(rows(["c-0"], input_age="old", input_City="Oslo"), "w", 2)
    log.append(rows(["d-0"], input_age="young"), "w", 3)
    found = read_log(settings, "small", 0.0).set_index("id")
    assert found["input_age"].dropna().to_dict() == {"a-0": 41.5, "b-0": 30.0}
    assert found["input_city"].dropna().to_dict() == {"b-0": "Rome", "c-0": "Oslo"}
    assert found["input_age__string"].dropna().to_dict() == {"c-0": "old", "d-0": "young"}


def test_columns_added_by_two_writers_at_once_are_all_there(
    settings: Settings, log: LogTable
) -> None:
    log.append(rows(["a-0"]), "w", 1)
    tables = [LogTable(log.uri) for _ in range(4)]
    for table in tables:
        table._open_table()  # all know the table as it is now

    def write(number: int) -> None:
        added = {f"input_{number}": float(number)}
        tables[number].append(rows([f"{number}-0"], **added), f"w{number}", 1)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    found = read_log(settings, "small", 0.0).set_index("id")
    assert [found.loc[f"{n}-0", f"input_{n}"] for n in range(4)] == [0.0, 1.0, 2.0, 3.0]


def test_what_an_input_is_logged_as() -> None:
    fields = input_fields(
        {
            "id": ColumnSpec(type="integer"),
            "born": ColumnSpec(type="datetime"),
            "level": ColumnSpec(type="category", categories=(1, 2)),
            "email": ColumnSpec(type="string", pii="hash"),
            "phone": ColumnSpec(type="string", pii="drop"),
            "city": ColumnSpec(type="string", pii="keep"),
        }
    )
    assert {name: (field.name, str(field.type)) for name, field in fields.items()} == {
        "id": ("input_id", "int64"),
        "born": ("input_born", "timestamp[us]"),
        "level": ("input_level", "int64"),
        "email": ("input_email__hash", "string"),
        "city": ("input_city", "string"),
    }


def test_rows_are_read_by_time_version_and_column(settings: Settings, log: LogTable) -> None:
    log.append(rows(["a-0", "b-0", "c-0"], [NOON, NOON + 1, NOON + 2]), "w", 3)
    log.append(rows(["d-0"], NOON + DAY, version=2), "w", 4)
    every = read_log(settings, "small", NOON)
    assert every["id"].tolist() == ["a-0", "b-0", "c-0", "d-0"]
    assert every["version"].dtype == "Int64"
    assert read_log(settings, "small", NOON + 1, NOON + 2)["id"].tolist() == ["b-0"]
    assert read_log(settings, "small", NOON, version=2)["id"].tolist() == ["d-0"]
    some = read_log(settings, "small", NOON + 1, columns=["prediction", "id"])
    assert list(some.columns) == ["prediction", "id"]
    with pytest.raises(DataError, match="has no column input_nothing"):
        read_log(settings, "small", NOON, columns=["input_nothing"])


def test_a_log_that_is_not_there_has_no_rows(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    assert len(read_log(settings, "small", 0.0)) == 0
    assert list(read_log(settings, "small", 0.0, columns=["id"]).columns) == ["id"]
    assert observe(settings, make_project(), 0.0) == {}


def test_files_outside_the_time_range_are_not_opened(
    make_project: Callable[..., Project], settings: Settings, log: LogTable
) -> None:
    for day in range(3):
        log.append(rows([f"{day}-0"], NOON + day * DAY), "w", day + 1)
    log.append(rows(["late-0"], NOON + 2 * DAY + 3600), "w", 4)
    folder = Path(log.uri)
    late = min((folder / "date=2023-11-17").glob("*.parquet"), key=lambda f: f.stat().st_mtime)
    for file in [*folder.glob("date=2023-11-15/*"), *folder.glob("date=2023-11-16/*"), late]:
        file.unlink()
    assert read_log(settings, "small", NOON + 2 * DAY + 60)["id"].tolist() == ["late-0"]
    assert observe(settings, make_project(), NOON + 2 * DAY + 60)[1, "champion"].requests == 1
    with pytest.raises(BackendError, match="cannot be read: this file of the table is missing"):
        read_log(settings, "small", NOON)


def test_requests_and_rows_are_told_apart(
    make_project: Callable[..., Project], settings: Settings, log: LogTable
) -> None:
    ids = [f"a-{row}" for row in range(11)] + ["b-0", "c-0", "c-1"]
    status = ["ok"] * 12 + ["error"] * 2
    latency = [1.0] * 11 + [3.0, 100.0, 100.0]
    said = [0.1] * 11 + [0.9, None, None]
    log.append(rows(ids, status=status, latency_ms=latency, prediction=said), "w", len(ids))
    log.append(rows(["d-0"], version=2, role="candidate"), "w", len(ids) + 1)
    found = observe(settings, make_project(), NOON - 1, NOON + 1)
    champion = found[1, "champion"]
    assert (champion.requests, champion.errors) == (3, 1)
    assert champion.p50_seconds == pytest.approx(0.003)
    assert champion.p99_seconds == pytest.approx(np.percentile([0.001, 0.003, 0.1], 99))
    assert sorted(champion.predictions) == [0.1] * 11 + [0.9]
    assert sorted(champion.ids) == sorted(ids[:12])
    assert found[2, "candidate"].requests == 1


def test_of_many_predictions_an_even_choice_is_shown_soon(
    make_project: Callable[..., Project], settings: Settings, log: LogTable
) -> None:
    count = 100_000
    times = NOON + np.arange(count) / 1000
    table = rows([f"{i:06d}-0" for i in range(count)], times, prediction=list(np.arange(count) / 1))
    log.append(table, "w", count)
    project = make_project()
    started = time.perf_counter()
    found = observe(settings, project, NOON)[1, "champion"]
    seconds = time.perf_counter() - started
    assert found.predictions == tuple(np.arange(0, count, 10).astype(float))
    assert found.ids[1] == "000010-0"
    assert seconds < 5  # 0.2 on an idle machine


def test_tidying_keeps_the_rows_and_few_files(settings: Settings, log: LogTable) -> None:
    now = time.time()
    for number in range(12):
        log.append(rows([f"{number:02d}-0"], now + number / 1000), "w", number + 1)
    before = read_log(settings, "small", 0.0)
    tidy(log.uri, sweep=True)
    assert len(DeltaTable(log.uri).file_uris()) == 1 + (len(set(before["date"])) > 1)
    pd.testing.assert_frame_equal(read_log(settings, "small", 0.0), before)
    assert log.committed("w") == 12
    log.append(rows(["after-0"], now + 1), "w", 13)
    assert len(read_log(settings, "small", 0.0)) == 13


def test_a_lake_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    place = tmp_path / "lake"
    place.write_text("a file")
    table = LogTable(f"{place}/small/prediction_log")
    with pytest.raises(BackendError, match="prediction_log: cannot append"):
        table.append(rows(["a-0"]), "w", 1)
    (tmp_path / "broken" / "_delta_log").mkdir(parents=True)
    (tmp_path / "broken" / "_delta_log" / "00000000000000000000.json").write_text("{")
    with pytest.raises(BackendError, match="cannot read"):
        LogTable(str(tmp_path / "broken")).committed("w")
    with pytest.raises(BackendError, match="cannot tidy"):
        tidy(str(tmp_path / "broken"), sweep=False)


def written_by_delta(log: LogTable, ids: Sequence[str], seconds: float) -> None:
    """Rows as they were appended before files had digests."""
    log._open_table()
    write_deltalake(log.uri, rows(ids, seconds), mode="append", schema_mode="merge")


def data_files(log: LogTable) -> list[Path]:
    return sorted(Path(log.uri).glob("date=*/*.parquet"))


def damage(file: Path, old: bytes, new: bytes) -> None:
    content = file.read_bytes()
    assert old in content
    file.write_bytes(content.replace(old, new, 1))


def test_a_damaged_file_is_told_to_every_reader(
    make_project: Callable[..., Project], settings: Settings, log: LogTable
) -> None:
    project = make_project()
    log.append(rows(["a-0", "b-0"], [NOON, NOON + 1]), "w", 2)
    (file,) = data_files(log)
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 4
    file.write_bytes(content)
    end = datetime.fromtimestamp(NOON + 1, UTC)
    readers: list[Callable[[], object]] = [
        lambda: read_log(settings, "small", 0.0),
        lambda: observe(settings, project, 0.0),
        lambda: list(open_log(settings, "small", ["id"])),
        lambda: count_before(log.uri, end),
        lambda: delete_before(log.uri, end),
    ]
    for reader in readers:
        with pytest.raises(BackendError) as told:
            reader()
        assert str(file) in str(told.value)
        assert "restore it from a backup of the lake, or move the table's folder" in str(told.value)
        assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'{"add":', b'{"adc":'),  # no file: Delta does not mind what it does not know
        (b'"path":"date=2023-11-15', b'"path":"date=2023-11-14'),
        (b'"appId":"files"', b'"appId":"filez"'),
    ],
)
def test_a_damaged_log_does_not_change_what_is_read(
    settings: Settings, log: LogTable, old: bytes, new: bytes
) -> None:
    assert [log.append(rows([f"{name}-0"]), "w", 1) for name in "ab"] == [1, 2]
    damage(Path(log.uri) / "_delta_log" / f"{2:020d}.json", old, new)
    with pytest.raises(BackendError, match="_delta_log: the files that it lists do not match"):
        read_log(settings, "small", 0.0)


def test_a_file_that_is_no_longer_removed_is_told(settings: Settings, log: LogTable) -> None:
    now = time.time()
    log.append(rows(["a-0"], now), "w", 1)
    log.append(rows(["b-0"], now), "w", 2)
    tidy(log.uri, sweep=False)
    damage(Path(log.uri) / "_delta_log" / f"{3:020d}.json", b'{"remove":', b'{"remoue":')
    with pytest.raises(BackendError, match="do not match their checksum"):
        read_log(settings, "small", 0.0)


def test_statistics_of_delta_decide_nothing(settings: Settings, log: LogTable) -> None:
    log.append(rows(["a-0"]), "w", 1)
    commit = Path(log.uri) / "_delta_log" / f"{1:020d}.json"
    damage(commit, b"2023-11-15T12:00:00", b"2023-11-15T02:00:00")
    damage(commit, b'"date":"2023-11-15"', b'"date":"2023-11-11"')
    assert read_log(settings, "small", NOON - 1)["id"].tolist() == ["a-0"]


def test_other_readers_leave_files_out_by_delta_s_statistics(log: LogTable) -> None:
    log.append(rows(["a-0", "b-0"], [NOON, NOON + 1.5]), "w", 2)
    (added,) = pa.table(DeltaTable(log.uri).get_add_actions(flatten=True)).to_pylist()
    times = [added["min.time"].timestamp(), added["max.time"].timestamp()]
    assert (times, added["num_records"]) == ([NOON, NOON + 1.5], 2)
    assert len(DeltaTable(log.uri).to_pandas()) == 2


def test_a_log_that_delta_s_writer_made_is_read_as_it_is(settings: Settings, log: LogTable) -> None:
    now = time.time()
    written_by_delta(log, ["a-0", "b-0"], now)
    written_by_delta(log, ["c-0"], NOON)
    assert set(read_log(settings, "small", 0.0)["id"]) == {"a-0", "b-0", "c-0"}
    assert read_log(settings, "small", NOON + 1)["id"].tolist() == ["a-0", "b-0"]
    log.append(rows(["d-0"], now + 1), "w", 1)
    tidy(log.uri, sweep=False)
    assert read_log(settings, "small", 0.0)["id"].tolist() == ["c-0", "a-0", "b-0", "d-0"]
    assert read_log(settings, "small", 0.0)["date"].notna().all()
    delete_before(log.uri, datetime.fromtimestamp(NOON + 1, UTC))
    assert read_log(settings, "small", 0.0)["id"].tolist() == ["a-0", "b-0", "d-0"]


def test_appends_and_tidying_at_once_lose_and_double_nothing(
    settings: Settings, log: LogTable
) -> None:
    now = time.time()
    log.append(rows(["first-0"], now), "first", 1)

    def write(writer: int) -> None:
        table = LogTable(log.uri)
        for turn in range(6):
            table.append(rows([f"{writer}.{turn}-0"], now + turn), f"w{writer}", turn + 1)
            if writer == 0:
                tidy(log.uri, sweep=False)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    expected = sorted(["first-0", *(f"{w}.{turn}-0" for w in range(4) for turn in range(6))])
    assert sorted(read_log(settings, "small", 0.0)["id"]) == expected


def test_a_checkpoint_keeps_the_checksum_and_old_commits_may_go(
    settings: Settings, log: LogTable
) -> None:
    for number in range(3):
        log.append(rows([f"{number}-0"], NOON + number), "w", number + 1)
    DeltaTable(log.uri).create_checkpoint()
    for commit in sorted((Path(log.uri) / "_delta_log").glob("0*.json"))[:-1]:
        commit.unlink()
    log.append(rows(["3-0"], NOON + 3), "w", 4)
    assert read_log(settings, "small", 0.0)["id"].tolist() == ["0-0", "1-0", "2-0", "3-0"]
    data_files(log)[1].unlink()
    with pytest.raises(BackendError, match="this file of the table is missing"):
        read_log(settings, "small", 0.0)


def test_tidying_leaves_a_damaged_file_alone_and_sweeps_what_a_killed_writer_left(
    settings: Settings, log: LogTable, caplog: pytest.LogCaptureFixture
) -> None:
    now = time.time()
    for number in range(3):
        log.append(rows([f"{number}-0"], now), "w", number + 1)
    damaged = data_files(log)[0]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    left = damaged.with_name("x.parquet-0123.part")
    left.write_bytes(b"PAR1")
    os.utime(left, (now - 7200, now - 7200))
    tidy(log.uri, sweep=True)
    assert str(damaged) in caplog.text
    assert damaged.exists()
    assert not left.exists()
    assert len(inventory(log.uri, DeltaTable(log.uri))) == 2
