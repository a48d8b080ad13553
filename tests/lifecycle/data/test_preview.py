"""A rehearsal finds what ingestion and split make, and keeps only what decides on parts."""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from lifecycle.data import preview as rehearsing
from lifecycle.data.ingest import ingest
from lifecycle.data.preview import HEAD, MAX_VIOLATIONS_SHOWN, rehearse, summary_lines
from lifecycle.data.split import split_dataset
from lifecycle.errors import ContractError, SourceError
from lifecycle.lake.read import read_version
from lifecycle.project import Project
from lifecycle.records import Window
from lifecycle.settings import Settings
from tests.support.small import SMALL, small_frame

ROWS = 3_000


def test_it_says_what_will_be(make_project: Callable[..., Project], settings: Settings) -> None:
    frame = small_frame(ROWS)
    frame.loc[[5, ROWS - 1], "age"] = 500.0
    project = make_project(frame)
    done = rehearse(project)
    made = ingest(project, settings, Window())
    split = split_dataset(project, settings, made)
    assert (done.rows, done.accepted) == (ROWS, ROWS - 2)
    sizes = {part: int(mask.sum()) for part, mask in done.parts.masks.items()}
    written = (split.train, split.validation, split.holdout)
    assert sizes == dict(zip(sizes, (part.rows for part in written), strict=True))
    assert done.parts.rule == split.rule
    pd.testing.assert_frame_equal(done.head, read_version(made.dataset).head(HEAD))


def test_its_words_account_for_every_row(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    frame = small_frame(ROWS).assign(year=np.arange(ROWS) % 5, bought=lambda f: f["bought"] * 1.0)
    frame.loc[[5, 10], "age"] = 500.0
    frame.loc[[11, 12, 15], "bought"] = np.nan  # of years 1, 2 and 0
    columns = SMALL["contract"]["columns"]
    warned = columns["visits"] | {"maximum": 9, "severity": "warning"}
    target = columns["bought"] | {"type": "number", "nullable": True}
    more = {"year": {"type": "integer"}, "visits": warned, "bought": target}
    project = make_project(
        frame,
        contract=SMALL["contract"] | {"columns": columns | more},
        time={"column": "year", "arrives_from": 3},
        split=SMALL["split"] | {"holdout_periods": 1},
    )
    done = rehearse(project)
    first, later, head, *broken = summary_lines(done, project)
    split = split_dataset(project, settings, ingest(project, settings, done.window))
    assert first == (
        f"start to 2: 1,798 of 1,800 rows keep the contract; train {split.train.rows:,}, "
        f"validation {split.validation.rows:,}, holdout {split.holdout.rows:,}, withheld "
        f"{split.withheld - 3:,} (to keep customer and year apart), without bought 3"
    )
    assert later == "1,200 rows are later: time.arrives_from is 3"
    assert head == "Violations of the contract:"
    many = int((frame["visits"][frame["year"] < 3] > 9).sum())
    assert broken[0] == "  age: above 120, 2 rows (row 6: 500.0; row 11: 500.0)"
    assert broken[1].startswith(f"  visits: above 9, {many} rows (row ")
    assert broken[1].endswith("): only a warning")
    assert len(broken) == 2
    assert [
        *summary_lines(done._replace(violations=done.violations * MAX_VIOLATIONS_SHOWN), project)
    ][-1] == "  and 8 more"


def test_a_hashed_entity_divides_otherwise_and_that_is_said(
    make_project: Callable[..., Project],
) -> None:
    columns = SMALL["contract"]["columns"] | {"customer": {"type": "integer", "pii": "hash"}}
    project = make_project(contract=SMALL["contract"] | {"columns": columns})
    done = rehearse(project)
    assert "The parts will be about that large: the hash of customer divides them" in [
        *summary_lines(done, project)
    ]


def test_it_keeps_the_columns_that_decide(
    make_project: Callable[..., Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def watched(frame: pd.DataFrame, project: Project) -> object:
        seen.append(list(frame.columns))
        return divide(frame, project)

    divide = rehearsing.divide
    monkeypatch.setattr(rehearsing, "divide", watched)
    rehearse(make_project(small_frame(ROWS)))
    assert seen == [["bought", "customer"]]


def test_too_many_bad_rows_and_none_at_all(
    make_project: Callable[..., Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(small_frame(ROWS).assign(age=500.0))
    with pytest.raises(ContractError, match="3,000 of 3,000 rows"):
        rehearse(project)

    class Empty:
        place = "nowhere"

        at = None

        def batches(self, columns: object) -> Iterator[pa.RecordBatch]:
            yield from ()

    monkeypatch.setattr(rehearsing, "open_source", lambda _: Empty())
    with pytest.raises(SourceError, match="nowhere: no rows in the window"):
        rehearse(project)
