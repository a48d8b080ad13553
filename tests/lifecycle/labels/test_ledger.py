"""The ledger: the order of deliveries, repeats and kills make no difference; the past stays."""

import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from lifecycle.audit.data_trail import data_chain
from lifecycle.cli.main import app
from lifecycle.data.privacy import suppress
from lifecycle.errors import DataError, LifecycleError
from lifecycle.labels.delivery import Delivery, deliver, label_source
from lifecycle.labels.ledger import Ledger, content_digest
from lifecycle.labels.truth import truth_by_id, truth_by_row
from lifecycle.project import Project
from lifecycle.settings import Settings
from tests.support.small import SMALL, small_frame

TIMED = {
    "time": {"column": "seen", "period": "day"},
    "contract": SMALL["contract"]
    | {"columns": {**SMALL["contract"]["columns"], "seen": {"type": "datetime"}}},
}
DELIVERIES = 4
RUNNER = """
import sys
from pathlib import Path
from lifecycle.labels.delivery import deliver, label_source
from lifecycle.project.loader import load_project
from lifecycle.settings import Settings
project = load_project(Path(sys.argv[1]))
for file in sys.argv[3:]:
    print(file, flush=True)
    deliver(project, Settings(home=Path(sys.argv[2])), label_source(project, file))
"""


@pytest.fixture
def timed(make_project: Callable[..., Project]) -> Project:
    """Rows are told by customer and time."""
    return make_project(small_frame().assign(seen="2024-01-01"), **TIMED)


def write(folder: Path, name: str, frame: pd.DataFrame) -> Path:
    file = folder / name
    frame.to_csv(file, index=False)
    return file


def take(project: Project, settings: Settings, frame: pd.DataFrame) -> Delivery:
    file = write(project.folder, "labels.csv", frame)
    return deliver(project, settings, label_source(project, str(file)))


def about(
    customers: list[int], bought: list[float | None], known: str | None = None
) -> pd.DataFrame:
    frame = pd.DataFrame({"customer": customers, "seen": "2024-01-01", "bought": bought})
    return frame if known is None else frame.assign(known_at=known)


def truth(
    project: Project, settings: Settings, customers: list[int], as_of: datetime | None = None
) -> list[float]:
    rows = Ledger(settings, project.name).rows(as_of)
    times = pd.Series(pd.to_datetime(["2024-01-01"] * len(customers)))
    values = truth_by_row(rows, project, customers, times).values
    return [None if np.isnan(value) else value for value in values]


def deliveries(folder: Path) -> list[Path]:
    """Labels of 40 customers that correct, repeat and contradict each other."""
    rng = np.random.default_rng(17)
    files = []
    for number in range(DELIVERIES):
        days = rng.integers(1, 5, 60)
        frame = pd.DataFrame(
            {
                "customer": rng.integers(0, 40, 60),
                "seen": [f"2024-01-0{day}" for day in rng.integers(1, 3, 60)],
                "bought": rng.integers(0, 2, 60),
                "known_at": [f"2024-02-0{day}T12:00:00" for day in days],
            }
        )
        files.append(write(folder, f"delivery{number}.csv", frame))
    return files


def test_twenty_orders_with_repeats_end_in_the_same_content(timed: Project, tmp_path: Path) -> None:
    files = deliveries(tmp_path)
    digests = set()
    for seed in range(20):
        settings = Settings(home=tmp_path / f"home{seed}")
        order = np.random.default_rng(seed).permutation([*range(DELIVERIES), seed % DELIVERIES])
        for at in order:
            delivery = deliver(timed, settings, label_source(timed, str(files[at])))
        digests.add(content_digest(Ledger(settings, "small").rows()))
        assert delivery.digest in digests
    assert len(digests) == 1


@pytest.mark.component
def test_killed_anywhere_and_run_again_the_content_is_the_same(
    timed: Project, settings: Settings, tmp_path: Path
) -> None:
    """Two kills among the deliveries of one process, then it runs to its end."""
    files = [str(file) for file in deliveries(tmp_path)]
    command = [sys.executable, "-c", RUNNER, str(timed.file), str(settings.home), *files]
    for killed_at in (1, 3):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout
        for _ in range(killed_at + 1):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    subprocess.run(command, check=True, capture_output=True)
    other = Settings(home=tmp_path / "other")
    for file in reversed(files):
        whole = deliver(timed, other, label_source(timed, file))
    assert content_digest(Ledger(settings, "small").rows()) == whole.digest


def test_what_was_known_then_is_read_again(timed: Project, settings: Settings) -> None:
    take(timed, settings, about([1, 2], [0, 1], "2024-02-01"))
    take(timed, settings, about([1, 3], [1, 0], "2024-03-01"))
    assert truth(timed, settings, [1, 2, 3, 4]) == [1, 1, 0, None]
    then = datetime(2024, 2, 15, tzinfo=UTC)
    assert truth(timed, settings, [1, 2, 3], then) == [0, 1, None]
    assert truth(timed, settings, [1], datetime(2024, 1, 31)) == [None]
    take(timed, settings, about([2], [0], "2024-02-10"))  # known long ago, delivered today
    assert truth(timed, settings, [2]) == [0]


def test_labels_that_contradict_each_other_are_none_until_another_one(
    timed: Project, settings: Settings
) -> None:
    take(timed, settings, about([1, 1, 2, 2], [0, 1, 1, 1], "2024-02-01"))
    assert truth(timed, settings, [1, 2]) == [None, 1]
    take(timed, settings, about([1], [1], "2024-02-02"))
    assert truth(timed, settings, [1]) == [1]


def test_a_label_without_a_time_of_knowing_is_taken_once(
    timed: Project, settings: Settings
) -> None:
    first = take(timed, settings, about([1, 2, 3], [0, 1, None]))
    assert (first.delivered, first.new, first.unlabelled) == (2, 2, 1)
    again = take(timed, settings, about([1, 2, 4], [0, 0, 1]))
    assert (again.new, again.corrections, again.labels) == (2, 1, 4)
    assert truth(timed, settings, [1, 2, 4]) == [0, 0, 1]
    assert again.text == "2 new labels, 1 of them corrections; 1 known already"
    (_, line) = data_chain(settings, "small").lines()
    assert (line.action, line.table, line.digest) == ("labels", "labels", again.digest)


def test_rows_that_share_entity_and_time_get_no_label(timed: Project, settings: Settings) -> None:
    take(timed, settings, about([1, 2], [1, 1]))
    assert truth(timed, settings, [1, 1, 2]) == [None, None, 1]


def test_erased_entities_do_not_come_back(timed: Project, settings: Settings) -> None:
    suppress(settings, timed, [2])
    delivery = take(timed, settings, about([1, 2], [1, 1]))
    assert (delivery.new, delivery.erased) == (1, 1)
    assert truth(timed, settings, [1, 2]) == [1, None]


def test_labels_by_prediction_id_of_a_multiclass_target(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    project = make_project(
        small_frame(), task="multiclass", target="city", gate={"metric": "log_loss"}
    )
    name = "0123456789abcdef000000000001"
    frame = pd.DataFrame(
        {"prediction_id": [name, f"{name}-1"], "city": ["Oslo", "Rome"], "note": "ignored"}
    )
    take(project, settings, frame)
    ids = pa.array([f"{name}-1", f"{name}-0", f"{name}-2"])
    found = truth_by_id(Ledger(settings, "small").rows(), project, ids)
    places = [project.classes.index("Rome"), project.classes.index("Oslo")]
    assert found.values[:2].tolist() == places
    assert found.touched.tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("customer,seen,bought\n1,2024-01-01,7\n2,2024-01-01,9\n", "row 1 and 1 more rows: bought"),
        ("customer,seen,bought\n1,2024-01-01,yes\n", "bought: not a whole number"),
        ("customer,seen,bought\n1,someday,1\n", "seen: not an ISO 8601"),
        ("customer,seen\n1,2024-01-01\n", "need the column bought"),
        ("customer,bought\n1,1\n", "need the column prediction_id, or customer and seen"),
        ("prediction_id,bought\n17,1\n", "prediction_id: not the id of a prediction"),
        ("customer,seen,bought\n,2024-01-01,1\n", "customer: missing, and so is prediction_id"),
    ],
)
def test_bad_labels_are_refused_whole(
    timed: Project, settings: Settings, text: str, reason: str
) -> None:
    file = timed.folder / "labels.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=reason):
        deliver(timed, settings, label_source(timed, str(file)))
    assert not Ledger(settings, "small").rows().num_rows


def test_a_table_and_a_database_deliver_as_a_file_does(
    timed: Project, settings: Settings, tmp_path: Path
) -> None:
    import sqlite3

    from deltalake import write_deltalake

    frame = about([1, 2], [0, 1], "2024-02-01")
    with sqlite3.connect(tmp_path / "outcomes.db") as database:
        frame.to_sql("outcomes", database, index=False)
    database.close()
    write_deltalake(str(tmp_path / "outcomes"), pa.Table.from_pandas(frame))
    places = [
        {"format": "sql", "path": f"sqlite:///{tmp_path}/outcomes.db", "table": "outcomes"},
        {"format": "delta", "path": str(tmp_path / "outcomes")},
    ]
    digests = {take(timed, settings, frame).digest}
    for number, source in enumerate(places):
        monitoring = type(timed.monitoring).model_validate({"labels": source})
        declared = timed.model_copy(update={"monitoring": monitoring})
        home = Settings(home=tmp_path / f"home{number}")
        digests.add(deliver(declared, home, label_source(declared)).digest)
    assert len(digests) == 1


def test_the_command_says_what_it_took(timed: Project, settings: Settings) -> None:
    file = write(timed.folder, "labels.csv", about([1, 2], [0, 1]))
    env = {"LIFECYCLE_HOME": str(settings.home)}
    done = CliRunner().invoke(app, ["labels", str(timed.file), str(file)], env=env)
    assert "small: 2 new labels, 0 of them corrections" in done.output
    failed = CliRunner().invoke(app, ["labels", str(timed.file)], env=env)
    assert isinstance(failed.exception, LifecycleError)
    assert "monitoring.labels" in str(failed.exception)
