"""Measures writing and reading the lake as it grows. One function per row; `ROWS` lists them.

Trails of lines as ingestion writes them, on a local disk and on an S3 server of the tests' kind.
"""

import atexit
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import boto3

from benchmarks import growth
from benchmarks.command_line import COMPILED
from benchmarks.result import Result, limit, ratio
from lifecycle.audit.chain import FAN_IN
from lifecycle.audit.data_trail import TABLE, data_chain, record_data
from lifecycle.data.ingest import ingest
from lifecycle.project.loader import load_project
from lifecycle.records import Window
from lifecycle.settings import Settings

PROJECT = Path(__file__).parents[1] / "examples" / "health_visits" / "project.yaml"
LIFECYCLE = Path(sys.executable).with_name("lifecycle")
FEW, MANY = 10, 1_000
"""Lines of a short trail and of a long one."""
TABLES = ("accepted", "current", "rejected", "train", "validation", "holdout")
"""Tables that the lines are about, in turn."""
SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
server.start()
print("http://%s:%s" % server.get_host_and_port(), flush=True)
sys.stdin.read()
server.stop()
"""
"""An S3 server, which writes a line per request to its error output."""
REQUEST = re.compile(rb'"[^"]*(?:GET|PUT|POST|HEAD|DELETE) [^"]* HTTP/1\.1')


def measure(rounds: int) -> Iterator[Result]:
    """Every row of the table."""
    for row in ROWS:
        yield row(rounds)


def trail_append(rounds: int) -> Result:
    """Each round appends lines to fresh copies of both trails, in turn."""
    times: dict[int, list[float]] = {FEW: [], MANY: []}
    for _ in range(rounds):
        with TemporaryDirectory(prefix="trail-") as folder:
            copies = {lines: _copy(lines, Path(folder, str(lines))) for lines in times}
            spent: dict[int, list[float]] = {FEW: [], MANY: []}
            for number in range(FAN_IN):
                for lines, settings in copies.items():
                    started = time.perf_counter()
                    _append(settings, lines + number)
                    spent[lines].append(time.perf_counter() - started)
            for lines, seconds in spent.items():
                times[lines].append(statistics.median(seconds))
    name = f"trail: append of line {MANY:,} / of line {FEW}"
    return ratio(name, times[MANY], times[FEW], 1.5, f"s (line {MANY:,}, line {FEW})")


def trail_growth(rounds: int) -> Result:
    """Reading, with every hash: linear is the ratio of the lines, 4."""
    times: dict[int, list[float]] = {MANY // 4: [], MANY: []}
    chains = {lines: data_chain(Settings(home=_trail(lines)), _project()) for lines in times}
    for number in range(rounds + 1):
        for lines, chain in chains.items():
            started = time.process_time()
            if len(chain.lines()) != lines:
                raise RuntimeError(f"the trail of {lines} lines cannot be read")
            if number:  # the first one warms up
                times[lines].append(time.process_time() - started)
    name = f"trail: reading {MANY:,} lines / {MANY // 4} lines"
    return ratio(name, times[MANY], times[MANY // 4], 4.8, "s of CPU, the two; linear is 4")


def trail_audit(rounds: int) -> Result:
    """The command, with the start of its process."""
    return _command(rounds, "audit")


def trail_verify(rounds: int) -> Result:
    """The same with `--verify`."""
    return _command(rounds, "audit", "--verify")


def trail_requests(rounds: int) -> Result:
    """Requests to S3 of one append: mean of as many in a row as go into one packing."""
    counts: dict[int, list[int]] = {}
    for lines in (FEW, MANY):
        with _bucket() as requests, TemporaryDirectory(prefix="trail-") as home:
            _upload(Path(_copy(lines, Path(home, "local")).lake), _project(), TABLE)
            settings = Settings(home=Path(home), lake_uri="s3://lake/tables")
            before = [requests()]
            for number in range(FAN_IN):
                _append(settings, lines + number)
                before.append(requests())
        counts[lines] = [later - earlier for earlier, later in pairwise(before)]
    return _alike("trail on S3: requests of an append at", "lines", counts)


def _alike(name: str, unit: str, counts: dict[int, list[int]]) -> Result:
    """Two counts of requests that should be the same, but for a fifth.

    Args:
        counts: what there was before, `FEW` and `MANY` → requests, one by one.
    """
    few, many = statistics.mean(counts[FEW]), statistics.mean(counts[MANY])
    spans = {before: f"{min(each)} to {max(each)}" for before, each in counts.items()}
    value = round(many / few, 3)
    detail = (
        f"{many:.1f} ({spans[MANY]}) / {few:.1f} ({spans[FEW]}) requests; mean of {FAN_IN} in a "
        "row, of which one packs the trail; at least 0.8"
    )
    return Result(
        name=f"{name} {MANY:,} {unit} / at {FEW}",
        value=value,
        unit="×",
        bar=1.2,
        holds=0.8 <= value <= 1.2,
        detail=detail,
    )


def increment_requests(rounds: int) -> Result:
    """Requests to S3 of ingesting one increment: mean of as many in a row as `trail_requests`."""
    counts: dict[int, list[int]] = {}
    for increments in (FEW, MANY):
        with _bucket() as requests, TemporaryDirectory(prefix="growth-") as folder:
            *_, (project, local, _) = growth.grow(Path(folder), increments, growth.FEW_ROWS)
            _upload(Path(local.lake), project.name)
            settings = local.model_copy(update={"lake_uri": "s3://lake/tables"})
            before = [requests()]
            for number in range(increments, increments + FAN_IN):
                file = project.folder / "in" / f"{number:05d}.csv"
                growth.frame(number * growth.FEW_ROWS, growth.FEW_ROWS).to_csv(file, index=False)
                ingested = ingest(project, settings, Window())
                if ingested.rows_new != growth.FEW_ROWS:
                    raise RuntimeError(f"{ingested.rows_new} rows of {file} are new")
                before.append(requests())
        counts[increments] = [later - earlier for earlier, later in pairwise(before)]
    return _alike("growth on S3: requests of an increment at", "versions", counts)


ROWS: tuple[Callable[[int], Result], ...] = (
    trail_append,
    trail_growth,
    trail_audit,
    trail_verify,
    trail_requests,
    increment_requests,
)


def _command(rounds: int, *words: str) -> Result:
    command = [str(LIFECYCLE), words[0], str(PROJECT), *words[1:]]
    environment = COMPILED | {"LIFECYCLE_HOME": str(_trail(MANY))}
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        subprocess.run(command, env=environment, check=True, capture_output=True)
        seconds.append(time.perf_counter() - started)
    name = f"trail: `lifecycle {' '.join(words)}` of {MANY:,} lines"
    return limit(name, seconds, "s", 2, "the whole command")


@cache
def _project() -> str:
    return load_project(PROJECT).name


def _append(settings: Settings, number: int) -> None:
    table = TABLES[number % len(TABLES)]
    digest = f"{number:064x}"
    record_data(
        settings, _project(), "ingest", table, number, digest, (f"{number} rows of a file",)
    )


@cache
def _trail(lines: int) -> Path:
    """The home of a trail of so many lines, which nobody appends to; made once."""
    folder = TemporaryDirectory(prefix="trail-")
    atexit.register(folder.cleanup)
    settings = Settings(home=Path(folder.name, "home"))
    for number in range(lines):
        _append(settings, number)
    return settings.home


def _copy(lines: int, home: Path) -> Settings:
    """A trail whose next line has this number."""
    shutil.copytree(_trail(lines), home)
    return Settings(home=home)


@contextmanager
def _bucket() -> Iterator[Callable[[], int]]:
    """A bucket `lake`; how many requests its server has had so far."""
    with TemporaryDirectory(prefix="bucket-") as folder, Path(folder, "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        try:
            assert server.stdout
            urls = (line.decode().strip() for line in server.stdout)
            url = next(line for line in urls if line.startswith("http://"))
            variables = {
                "AWS_ACCESS_KEY_ID": "benchmark",
                "AWS_SECRET_ACCESS_KEY": "benchmark",
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_ENDPOINT_URL": url,
                "AWS_ALLOW_HTTP": "true",
            }
            with patch.dict(os.environ, variables):
                boto3.client("s3").create_bucket(Bucket="lake")
                yield lambda: len(REQUEST.findall(Path(log.name).read_bytes()))
        finally:
            server.communicate(timeout=30)


def _upload(lake: Path, *folder: str) -> None:
    client = boto3.client("s3")
    for file in lake.joinpath(*folder).rglob("*"):
        if file.is_file():
            client.put_object(
                Bucket="lake", Key=f"tables/{file.relative_to(lake)}", Body=file.read_bytes()
            )
