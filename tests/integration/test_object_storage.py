"""Lake and artifact root in object storage: an S3 server of the tests' own, on the loopback."""

import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError

from benchmarks import lake
from lifecycle.audit.data_trail import data_chain, record_data
from lifecycle.cli.main import main
from lifecycle.data.ingest import ingest
from lifecycle.errors import BackendError
from lifecycle.features.join import join_views
from lifecycle.governance import retention
from lifecycle.governance.erase import check, erase
from lifecycle.governance.requests import file_request, pending
from lifecycle.governance.retention import retain
from lifecycle.lake.logged_predictions import read_log
from lifecycle.lake.prediction_log import SCHEMA, LogTable, tidy
from lifecycle.lake.read import open_version, read_version
from lifecycle.lake.staging import MARKER
from lifecycle.lake.table import history, noted_versions, table_uri
from lifecycle.lake.write import write_version
from lifecycle.project import Project
from lifecycle.records import Window
from lifecycle.release.artifacts import record_of
from lifecycle.release.registry import versions
from lifecycle.settings import Settings
from tests.support.person import EMAIL, PERSON, frame_with_person, log, plant, project_changes
from tests.support.scripts import environment
from tests.support.small import ROOT, SMALL, small_frame

pytestmark = pytest.mark.system


# In a process of its own: deltalake keeps Python's lock while it waits for an answer.
SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("http://%s:%s" % server.get_host_and_port(), flush=True)
sys.stdin.read()
server.stop()
"""
BUCKETS = ("lake", "models")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    command = [sys.executable, "-c", SERVER]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, **pipes) as process:
        assert process.stdout
        yield process.stdout.readline().strip()
        process.communicate(timeout=30)


@pytest.fixture
def settings(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """As docs/how-to/deploy.md says; both buckets are empty."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "lifecycle",
        "AWS_SECRET_ACCESS_KEY": "s3-Secret-77",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server,
        "AWS_ALLOW_HTTP": "true",
        "LIFECYCLE_HOME": str(tmp_path / "lifecycle"),
        "LIFECYCLE_LAKE_URI": "s3://lake/tables/",
        "LIFECYCLE_MLFLOW_ARTIFACT_ROOT": "s3://models/mlflow",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    for bucket in BUCKETS:
        client.create_bucket(Bucket=bucket)
    yield Settings.load()
    for bucket in BUCKETS:
        for name, version in objects(bucket, old=True):
            client.delete_object(Bucket=bucket, Key=name, VersionId=version)
        client.delete_bucket(Bucket=bucket)
    s3fs.S3FileSystem.clear_instance_cache()


def objects(bucket: str, old: bool = False) -> list[tuple[str, str]]:
    """Key and version of every object, with `old` of replaced and deleted ones, too."""
    found = []
    for page in boto3.client("s3").get_paginator("list_object_versions").paginate(Bucket=bucket):
        known = page.get("Versions", []) + (page.get("DeleteMarkers", []) if old else [])
        found += [(one["Key"], one["VersionId"]) for one in known if old or one["IsLatest"]]
    return found


def put(bucket: str, name: str, content: bytes) -> None:
    boto3.client("s3").put_object(Bucket=bucket, Key=name, Body=content)


def get(bucket: str, name: str) -> bytes:
    return bytes(boto3.client("s3").get_object(Bucket=bucket, Key=name)["Body"].read())


def holding(*words: str) -> list[str]:
    """Objects of both buckets that name somebody, as bytes or in Parquet: without our search."""
    found = []
    for bucket in BUCKETS:
        for name, _ in objects(bucket):
            content = get(bucket, name)
            if content.startswith(b"PAR1"):
                content += repr(pq.read_table(io.BytesIO(content)).to_pylist()).encode()
            if any(word.encode() in content for word in words):
                found.append(f"{bucket}/{name}")
    return found


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["lifecycle", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_a_lake_in_a_bucket_is_as_one_in_a_folder(
    make_project: Callable[..., Project],
    settings: Settings,
    train: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    local = settings.model_copy(update={"lake_uri": str(tmp_path / "lake")})
    project = make_project()
    there, here = (train(project, one) for one in (settings, local))
    for part in ("train", "validation", "holdout"):
        one, other = getattr(there.split, part), getattr(here.split, part)
        assert one.uri == f"s3://lake/tables/small/{part}"
        assert (one.digest, one.rows) == (other.digest, other.rows)
        assert read_version(one).equals(read_version(other))
    assert there.bundle.digest == here.bundle.digest
    frame = small_frame().assign(visits=3)
    frame.to_csv(project.folder / "small.csv", index=False)
    newer = ingest(project, settings, Window()).dataset
    assert (newer.version, ingest(project, settings, Window()).dataset) == (1, newer)
    assert history(newer.uri)["version"].tolist() == [0, 1]
    some = pa.Table.from_batches(open_version(newer, ["visits", "customer"]))
    assert (some.column_names, some.num_rows) == (["visits", "customer"], 400)
    assert len(read_version(there.ingested.dataset)) == 400

    file = str(project.file)
    assert command(monkeypatch, "versions", file) == 0
    assert command(monkeypatch, "diff", file, "accepted@0", "accepted@1") == 0
    assert command(monkeypatch, "lineage", file, "train@0") == 0
    assert command(monkeypatch, "audit", file, "--verify") == 0
    said = capsys.readouterr().out
    assert "accepted" in said
    assert "visits" in said


def test_incremental_ingestion(make_project: Callable[..., Project], settings: Settings) -> None:
    source = {"path": "in/*.csv", "incremental": {"by": "files"}}
    project = make_project(source=source, contract=SMALL["contract"] | {"key": ["customer"]})
    (project.folder / "in").mkdir()
    frame = small_frame().assign(customer=range(400))
    frame[:300].to_csv(project.folder / "in" / "a.csv", index=False)
    assert ingest(project, settings, Window()).dataset.rows == 300
    frame[250:].to_csv(project.folder / "in" / "b.csv", index=False)
    done = ingest(project, settings, Window())
    assert (done.dataset.version, done.dataset.rows, done.rows_new) == (1, 400, 100)
    assert set(read_version(done.dataset)["customer"]) == set(range(400))


def test_feature_views(make_paying: Callable[..., Project], settings: Settings) -> None:
    project = make_paying()
    rows = ingest(project, settings, Window()).dataset
    joined = join_views(project, settings, rows)
    assert joined.uri.startswith("s3://")
    assert len(read_version(joined)) == rows.rows


def test_of_two_writers_one_wins(settings: Settings) -> None:
    """Without any setting: S3 refuses the second commit of one number."""
    uri = table_uri(settings, "small", "accepted")
    first = write_version(small_frame(), uri, note={})
    handles = [DeltaTable(uri) for _ in range(2)]
    once = CommitProperties(max_commit_retries=0)
    handles[0].create_write_transaction([], "append", handles[0].schema(), commit_properties=once)
    with pytest.raises(CommitFailedError):
        handles[1].create_write_transaction(
            [], "append", handles[1].schema(), commit_properties=once
        )
    assert first.version == 0
    meet = threading.Barrier(4)

    def record(number: int) -> None:
        meet.wait()
        record_data(settings, "small", "ingest", f"t{number}", 0)

    def write(number: int) -> int:
        meet.wait()
        uri = table_uri(settings, "small", "made_at_once")
        return write_version(small_frame(20 + number), uri, note={}).version

    record_data(settings, "small", "ingest", "first", 0)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(record, range(4)))
        written = list(pool.map(write, range(4)))
    assert sorted(written) == [0, 1, 2, 3]
    chain = data_chain(settings, "small")
    assert (len(chain.lines()), chain.broken()) == (5, None)


def test_a_trail_is_packed_in_a_bucket(settings: Settings) -> None:
    """Of 20 lines there are two segments of 8 and 4 of one; what was packed is deleted."""
    lines = [record_data(settings, "small", "ingest", f"t{at % 3}", at) for at in range(20)]
    chain = data_chain(settings, "small")
    assert (chain.lines(), chain.broken()) == (lines, None)
    names = [name for name, _ in objects("lake") if name.endswith(".parquet")]
    segments = [name for name in names if "_delta_log" not in name]
    assert len(segments) == 6
    [head] = [name for name, _ in objects("lake") if name.endswith("_head.json")]
    newest = max(segments)
    content = get("lake", newest)
    put("lake", newest, content[:99])
    assert "its SHA-256 is not the one in its name" in (chain.broken() or "")
    boto3.client("s3").delete_object(Bucket="lake", Key=newest)
    assert "is missing" in (chain.broken() or "")
    put("lake", newest, content)
    put("lake", head, b"{}")
    with pytest.raises(BackendError, match=r"_head\.json: is damaged"):
        record_data(settings, "small", "ingest", "t0", 20)


def test_an_append_to_a_trail_needs_as_many_requests_whatever_its_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lake, "MANY", 200)
    row = lake.trail_requests(1)
    assert row["holds"], row["detail"]


def test_what_a_killed_writer_left_goes_with_the_next(settings: Settings) -> None:
    uri = table_uri(settings, "small", "accepted")
    mine = f"{os.uname().nodename}-{2**22 + 1}"  # no process has this number
    for name in (f"{MARKER}0123456789abcdef-{mine}", "part-0123456789abcdef-00000.parquet"):
        put("lake", f"tables/small/accepted/{name}", b"")
    written = write_version(small_frame(), uri, note={})
    names = [name.rpartition("/")[2] for name, _ in objects("lake")]
    assert len(names) == 2, names
    assert not any("0123456789abcdef" in name for name in names)
    assert len(read_version(written)) == 400


def test_predictions_are_logged_and_tidied(settings: Settings) -> None:
    uri = table_uri(settings, "small", "prediction_log")
    table, now = LogTable(uri), datetime.now(UTC)
    for number in range(3):
        row = {"id": f"{number}-0", "time": now, "date": now.date(), "version": 1}
        table.append(pa.Table.from_pylist([row], schema=SCHEMA), "writer", number + 1)
    assert table.committed("writer") == 3
    tidy(uri, sweep=True)
    found = read_log(settings, "small", now.timestamp() - 60)
    assert found["id"].tolist() == ["0-0", "1-0", "2-0"]


def test_a_person_is_erased_from_every_object(
    tmp_path: Path, settings: Settings, train: Callable[..., Any]
) -> None:
    planted = plant(tmp_path, settings, train)
    project, settings = planted.project, planted.settings
    run = f"mlflow/small/{planted.trained.model.run_id}/artifacts"
    columns = list(project.input_columns)
    theirs = [5, 6, "Rome"][: len(columns)]
    example = {"columns": [*columns, "customer"], "data": [[*theirs, PERSON]]}
    put("models", f"{run}/notes.txt", f"asked by {EMAIL}\n".encode())
    put("models", f"{run}/rows.json", json.dumps(example).encode())
    table = io.BytesIO()
    pq.write_table(pa.table({"who": [PERSON]}), table, compression="zstd")
    put("models", f"{run}/rows.parquet", table.getvalue())
    words = (PERSON, EMAIL, json.dumps(PERSON)[1:-1], "O'Hara")
    tables = ("accepted", "rejected", "prediction_log", "predictions")
    before = check(project, settings, [PERSON]).left
    for place in (*(f"s3://lake/tables/small/{name}/" for name in tables), f"s3://models/{run}/"):
        assert any(place in found for found in before), place
    assert len(holding(*words)) >= len(tables) + 3

    done = erase(project, settings, file_request(project, settings, [PERSON], "letter 17"))
    assert done.searched.clean, done.searched
    assert done.tables["accepted"] == {0: 4, 1: 4}
    assert done.tables["rejected"] == {0: 1, 1: 1}
    assert done.tables["prediction_log"] == {-1: 2}
    assert done.searched.files >= sum(len(objects(bucket)) for bucket in BUCKETS) - 1  # the proof
    assert holding(*words) == []
    assert get("models", f"{run}/notes.txt") == b"asked by [erased]\n"
    split = planted.trained.split
    assert len(read_version(split.train)) == split.train.rows - 4
    assert history(table_uri(settings, "small", "accepted"))["rows"].tolist() == [396, 396]
    assert record_of(planted.trained.model, settings).model == planted.trained.model
    assert pending(project, settings) == []
    newest = ingest(project, settings, Window()).dataset
    assert PERSON not in set(read_version(newest)["customer"])


def test_what_a_bucket_keeps_of_a_person_is_told(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    client = boto3.client("s3")
    on = {"Status": "Enabled"}
    client.put_bucket_versioning(Bucket="lake", VersioningConfiguration=on)
    project = make_project(frame_with_person(), **project_changes())
    ingest(project, settings, Window())
    request = file_request(project, settings, [PERSON])
    searched = erase(project, settings, request).searched
    assert holding(PERSON) == []
    assert searched.left
    assert all("an old version that the bucket keeps" in place for place in searched.left)
    assert pending(project, settings) != []
    latest = set(objects("lake"))
    for name, version in set(objects("lake", old=True)) - latest:  # as the bucket's own rule does
        client.delete_object(Bucket="lake", Key=name, VersionId=version)
    (request,) = pending(project, settings)
    assert erase(project, settings, request).searched.clean
    assert pending(project, settings) == []


def test_retention(
    make_project: Callable[..., Project],
    settings: Settings,
    train: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project = make_project(contract=SMALL["contract"] | {"retention": {"days": 30}})
    made = train(project, settings)
    made.register()
    refs = []
    for visits in (1, 2):
        frame = small_frame().assign(visits=visits)
        frame.to_csv(project.folder / "small.csv", index=False)
        refs.append(ingest(project, settings, Window()).dataset)
    times = [datetime.now(UTC) + timedelta(days=days) for days in (-1, 39)]
    rows = [{"id": f"{t:%d}-0", "time": t, "date": t.date(), "version": 1} for t in times]
    uri = table_uri(settings, "small", "prediction_log")
    LogTable(uri).append(pa.Table.from_pylist(rows, schema=SCHEMA), "test", 2)
    later = datetime.now(UTC).timestamp() + 40 * 86_400
    monkeypatch.setattr(retention.time, "time", lambda: later)
    done = retain(project, settings)
    assert (done.versions, done.log_rows) == ({"accepted": (1,)}, 1)
    place = "tables/small/accepted/part-"
    assert len([name for name, _ in objects("lake") if name.startswith(place)]) == 2
    with pytest.raises(BackendError, match="cannot be read"):
        read_version(refs[0])
    assert len(read_version(refs[1])) == refs[1].rows
    assert len(read_version(made.split.train)) == made.split.train.rows
    assert DeltaTable(uri).to_pyarrow_table()["id"].to_pylist() == [rows[1]["id"]]
    assert retain(project, settings).versions == {}


def test_a_bucket_that_is_not_there_is_no_clean_lake(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    project = make_project(frame_with_person(), **project_changes())
    wrong = settings.model_copy(update={"lake_uri": "s3://laek/tables"})
    with pytest.raises(BackendError, match="The specified bucket does not exist"):
        history(table_uri(wrong, "small", "accepted"))
    with pytest.raises(BackendError, match="The specified bucket does not exist"):
        check(project, wrong, [PERSON])
    other = settings.model_copy(update={"mlflow_artifact_root": "s3://x/y"})
    with pytest.raises(BackendError, match="there is no x, or this user"):
        check(project, other, [PERSON])


def flow(name: str, project: Project, *more: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", f"flows.{name}", "--project", str(project.file), *more],
        cwd=ROOT,
        env=environment(Path(os.environ["LIFECYCLE_HOME"])),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_flows(make_project: Callable[..., Project], settings: Settings) -> None:
    gate = {"gain_over_baseline": -1.0, "require_checks": False}
    project = make_project(frame_with_person(), **project_changes(), gate=gate)
    flow("train", project)
    (model,) = versions("small", settings)
    log(project, settings, [PERSON, None])
    assert any(found.startswith("models/") for found in holding(EMAIL, PERSON))
    screen = flow("erase", project, "--entity", PERSON, "--reason", "letter 17")
    assert "nothing is left" in screen
    assert "small v1 (challenger) learned from 4 of these rows" in screen
    assert holding(PERSON, EMAIL, json.dumps(PERSON)[1:-1]) == []
    assert check(project, settings, [PERSON]).clean
    assert record_of(model, settings).model == model


@pytest.fixture
def plan(
    server: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[int, str], int]]:
    """Plan which write of the lake fails, and how; the number of writes since the last plan."""
    command = [sys.executable, "-m", "tests.support.lossy", server]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = process.stdout.readline().strip()
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        s3fs.S3FileSystem.clear_instance_cache()
        yield lambda at, kind: int(httpx.get(f"{url}/-/{at}/{kind}", trust_env=False).text)
        process.kill()
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)


def test_a_write_whose_answer_is_lost_leaves_one_version(
    make_project: Callable[..., Project], settings: Settings, plan: Callable[[int, str], int]
) -> None:
    """The server has done it, nobody hears of it, and it may be sent again."""
    project = make_project()
    uri = table_uri(settings, "small", "accepted")

    def state() -> list[tuple[int, str, int]]:
        noted = [version for version, _ in noted_versions(uri)]
        return [(v.version, v.digest, len(read_version(v))) for v in noted]

    ingest(project, settings, Window())
    expected, writes = state(), plan(0, "")
    for at in range(writes, 0, -2):  # every other one: each takes seconds
        for name, _ in objects("lake"):
            boto3.client("s3").delete_object(Bucket="lake", Key=name)
        plan(at, "lost")
        with suppress(BackendError):
            ingest(project, settings, Window())
        plan(0, "")
        ingest(project, settings, Window())
        assert state() == expected, f"write {at} of {writes}"
        lines = data_chain(settings, "small").lines()
        assert [(line.action, line.version) for line in lines] == [("ingest", 0)]


def test_a_server_that_is_gone_in_the_middle_of_a_flow(
    make_project: Callable[..., Project],
    settings: Settings,
    plan: Callable[[int, str], int],
    monkeypatch: pytest.MonkeyPatch,
    prefect_server: None,
) -> None:
    """The flow ends with one line, and the next one brings what an undisturbed one does."""
    from flows.prepare import prepare

    monkeypatch.setenv("AWS_TIMEOUT", "500ms")  # 30 s by default
    project = make_project()
    tables = [table_uri(settings, "small", name) for name in ("accepted", "train", "holdout")]

    def state() -> list[tuple[str, int, str, int]]:
        noted = [version for uri in tables for version, _ in noted_versions(uri)]
        return [(v.uri, v.version, v.digest, len(read_version(v))) for v in noted]

    prepare(project=project)
    expected, writes = state(), plan(0, "")
    for kind in ("dead", "silent"):
        for name, _ in objects("lake"):
            boto3.client("s3").delete_object(Bucket="lake", Key=name)
        plan(writes // 2, kind)
        begun = time.monotonic()
        with pytest.raises(BackendError, match=r"^s3://lake/\S+: cannot (read|write)") as ended:
            prepare(project=project)
        assert time.monotonic() - begun < 30, "11 requests of 0.5 s, and the flow"
        assert "\n" not in str(ended.value)
        plan(0, "")
        assert set(state()) <= set(expected), "no version is there in part"
        prepare(project=project)
        assert state() == expected
        lines = data_chain(settings, "small").lines()
        assert len(lines) == len({(line.action, line.table, line.version) for line in lines})
