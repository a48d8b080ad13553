"""`lifecycle init` guesses: what it writes works as it is, on real files and awkward ones."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.datasets
import statsmodels.datasets
import yaml

from lifecycle.data.contract import last_contract, required_bump
from lifecycle.data.ingest import ingest
from lifecycle.data.preview import rehearse
from lifecycle.data.sources import open_source, read_source
from lifecycle.data.split import small_holdout, split_dataset
from lifecycle.data.windows import arriving, first_window
from lifecycle.errors import SourceError, TargetError
from lifecycle.project import Project
from lifecycle.project.loader import load_project
from lifecycle.scaffold.columns import guess_column, guess_columns
from lifecycle.scaffold.generate import infer_project, project_name
from lifecycle.scaffold.leakage import leakage_suspects
from lifecycle.scaffold.protected import protected_attributes
from lifecycle.scaffold.roles import RoleOptions
from lifecycle.settings import Settings
from tests.support.small import small_frame


def infer(csv: Path, target: str) -> tuple[Project, list[str]]:
    text, guesses = infer_project(csv, target)
    file = csv.parent / "project.yaml"
    file.write_text(text)
    return load_project(file), guesses


@pytest.mark.parametrize(
    ("name", "target", "rows", "expected", "said"),
    [
        (
            "telco_churn.csv",
            "Churn",
            7_043,
            {"task": "binary", "positive": "Yes", "entity": "customerID", "ignore": ()},
            ["nullable: TotalCharges (number) has 11 missing values"],
        ),
        (
            "bike_sharing_hour.csv",
            "cnt",
            17_379,
            {
                "task": "regression",
                "entity": None,
                "ignore": ("instant",),
                "leakage": ("registered", "casual"),
            },
            ["leakage registered: casual + registered is the target; no feature"],
        ),
        (
            "california_housing.csv",
            "median_house_value",
            20_640,
            {"task": "regression", "entity": None, "time": None, "ignore": ()},
            ["nullable: total_bedrooms (number) has 207 missing values"],
        ),
    ],
)
def test_real_files_ingest_and_split_without_surprise(
    shared_data: Path,
    settings: Settings,
    tmp_path: Path,
    name: str,
    target: str,
    rows: int,
    expected: dict[str, Any],
    said: list[str],
) -> None:
    text, guesses = infer_project(shared_data / name, target, folder=tmp_path)
    (tmp_path / "project.yaml").write_text(text)
    project = load_project(tmp_path / "project.yaml")
    assert {key: getattr(project, key) for key in expected} == expected
    assert set(said) <= set(guesses)
    ingested = ingest(project, settings, first_window(project))
    later = arriving(project, open_source(project))
    arrived = [ingest(project, settings, window, "current") for window in later]
    assert [one.rows_rejected for one in (ingested, *arrived)] == [0] * (len(later) + 1)
    assert sum(one.rows_in for one in (ingested, *arrived)) == rows
    assert len(later) == (3 if project.time else 0)
    parts = split_dataset(project, settings, ingested)
    assert parts.withheld == 0
    assert 0.15 < parts.holdout.rows / ingested.rows_in < 0.25


@pytest.mark.parametrize(
    ("cells", "spec"),
    [
        (["1", "2", None] * 20, {"type": "integer", "nullable": True, "minimum": 1, "maximum": 2}),
        (["1.0", "2.5", " "] * 20, {"type": "number", "nullable": True, "minimum": 0}),
        (["-1.5", "2", "NA"] * 20, {"type": "number", "nullable": True}),
        (["true", "False"] * 20, {"type": "boolean"}),
        (["2020-01-01", "2020-01-02T10:00"] * 20, {"type": "datetime"}),
        (["01/02/2020"] * 40, {"type": "category", "categories": ["01/02/2020"]}),
        (["007", "12"] * 20, {"type": "category", "categories": ["007", "12"]}),
        (["a", "b"] * 20, {"type": "category", "categories": ["a", "b"]}),
        ([f"word {i}" for i in range(40)], {"type": "string"}),
        ([None] * 40, {"type": "string", "nullable": True}),
        ([str(i) for i in range(40)], {"type": "integer", "minimum": 0}),
        ([str(2**62 + i) for i in range(40)], {"type": "string"}),
    ],
)
def test_columns(cells: list[str | None], spec: dict[str, Any]) -> None:
    guessed = guess_column(pd.Series(cells, dtype=object))
    assert guessed.spec == spec


NUMBERS = [f"{n}.5" for n in range(1_999)]
WHOLE = [str(n % 70) for n in range(1_999)]
DAYS = [f"2024-01-{n % 28 + 1:02d}" for n in range(1_999)]


@pytest.mark.parametrize(
    ("cells", "kind", "misfits"),
    [
        ([*NUMBERS, "1O2"], "number", [1_999]),
        (["n/a", *WHOLE, "n.a."], "integer", [0, 2_000]),
        (["1,5", *WHOLE, "1.5"], "number", [0]),
        (["12", *WHOLE, "1e3"], "number", []),
        ([*DAYS, "unknown", None], "datetime", [1_999]),
        (["0000-00-00", *DAYS], "datetime", [0]),
        (["2024", *DAYS, "2023-02-30"], "datetime", [0, 2_000]),
        ([*WHOLE, *["?"] * 20], "integer", list(range(1_999, 2_019))),
        ([*WHOLE, *["?"] * 21], "category", []),
        ([*WHOLE[:98], "?"], "string", []),
        ([*WHOLE[:99], "?"], "integer", [99]),
        ([*NUMBERS, "007", "?"], "string", []),
        ([*[str(10**19 + n) for n in range(1_999)], "?"], "string", []),
        ([*["true"] * 1_999, "?"], "category", []),
    ],
)
def test_nearly_all_cells_decide(cells: list[str | None], kind: str, misfits: list[int]) -> None:
    guessed = guess_column(pd.Series(cells, dtype=object))
    assert (guessed.kind, guessed.misfits.tolist()) == (kind, misfits)
    assert guessed.values[misfits].isna().all()
    assert guessed.spec.get("nullable", False) is (None in cells)


def test_an_identifier_is_a_name_where_one_is_no_number() -> None:
    column = guess_column(pd.Series([*WHOLE, "C12"], dtype=object), "invoice_id")
    assert column.kind == "category"


def test_columns_with_too_many_misfits_together_stay_text() -> None:
    raw = {}
    for number in range(8):  # 10 rows each, none of them twice: more than the 50 of all
        cells = [str(n) for n in range(1_000)]
        cells[number * 10 : number * 10 + 10] = ["?"] * 10
        raw[f"c{number}"] = pd.Series(cells, dtype=object)
    guessed = guess_columns(raw)
    assert [column.kind for column in guessed.columns.values()] == ["integer"] * 5 + ["string"] * 3
    assert (guessed.rows, len(guessed.row_numbers)) == (1_000, 950)


def write(tmp_path: Path, frame: pd.DataFrame, **how: Any) -> Path:
    file = tmp_path / "file.csv"
    frame.to_csv(file, index=False, **how)
    return file


def test_roles(tmp_path: Path) -> None:
    frame = small_frame().assign(
        row=range(400), same=1, empty=None, note=[f"n{i // 2}" for i in range(400)],
        seen=pd.date_range("2020", periods=400).astype(str),
        also=pd.date_range("2021", periods=400).astype(str),
    ).rename(columns={"customer": "customer_id"})  # fmt: skip
    project, guesses = infer(write(tmp_path, frame), "bought")
    assert project.entity == "customer_id"
    assert project.time
    assert (project.time.column, project.time.period) == ("seen", "month")
    assert project.ignore == ("row", "same", "empty", "note", "also")
    assert "ignore: row counts the rows" in guesses
    assert project.input_columns == ("age", "visits", "city")


def test_an_identifier_of_rows_is_no_entity_where_time_divides(tmp_path: Path) -> None:
    frame = small_frame().assign(
        order_id=[f"o{i}" for i in range(400)], day=pd.date_range("2020", periods=400).astype(str)
    )
    project, _ = infer(write(tmp_path, frame.drop(columns="customer")), "bought")
    assert project.entity is None
    assert project.ignore == ("order_id",)


def test_an_identifier_that_nearly_numbers_the_rows_is_no_entity(tmp_path: Path) -> None:
    frame = small_frame(2_000).rename(columns={"customer": "customer_id"})
    frame.insert(0, "order_id", [f"o{i}" for i in range(2_000)])
    frame.loc[[7, 9], "order_id"] = "o1"
    project, guesses = infer(write(tmp_path, frame), "bought")
    assert project.entity == "customer_id"
    assert "order_id" in project.ignore
    assert any(guess.startswith("repeated: order_id came before in 2 rows") for guess in guesses)


def test_a_coarse_period_gives_way_to_a_holdout_that_is_large_enough(tmp_path: Path) -> None:
    frame = small_frame(3_000).rename(columns={"customer": "customer_id"})
    spans = (("2026-06-01", "2026-08-31", 1_770), ("2026-09-01", "2026-09-30", 615))
    spans += (("2026-10-01", "2026-10-31", 615),)
    times = [pd.date_range(start, end, periods=rows) for start, end, rows in spans]
    at = pd.DatetimeIndex(np.concatenate(times)).astype(str)
    frame = frame.assign(customer_id=[i * 7919 % 400 for i in range(3_000)], at=at)
    project, _ = infer(write(tmp_path, frame), "bought")
    assert project.time
    # the newest month has a fifth of the rows, the two newest have too many
    assert project.time.period == "week"
    assert small_holdout(int(rehearse(project).parts.holdout.sum()), len(frame), project) == ""


def test_rows_with_misfits_go_to_quarantine_and_are_told_by_number(
    settings: Settings, tmp_path: Path
) -> None:
    frame = small_frame(2_000).astype({"age": str, "visits": str})
    frame.loc[16, "age"] = "Mr Secret"
    frame.loc[[3, 16, *range(100, 118)], "visits"] = "see file"
    project, guesses = infer(write(tmp_path, frame), "bought")
    assert project.contract.columns["age"].type == "number"
    assert project.contract.columns["visits"].type == "integer"
    assert "type: age: number, but 1 of 2,000 cells is not: row 17" in guesses
    said = "type: visits: integer, but 20 of 2,000 cells are not: rows 4, 17, 101 and 17 more"
    assert said in guesses
    assert not any("Secret" in guess for guess in guesses)
    assert project.contract.max_rejected_share == 0.02
    ingested = ingest(project, settings, first_window(project))
    assert (ingested.rows_in, ingested.rows_rejected) == (2_000, 20)
    assert split_dataset(project, settings, ingested).holdout.rows > 300


@pytest.mark.parametrize(("rows", "told"), [(400, True), (90, False)])
def test_categories_seen_once_are_told(tmp_path: Path, rows: int, told: bool) -> None:
    frame = small_frame(rows)
    frame.loc[[5, 77], "city"] = ["Rmoe", "Olso"]
    project, guesses = infer(write(tmp_path, frame), "bought")
    categories = project.contract.columns["city"].categories
    assert categories == ("Lima", "Olso", "Oslo", "Rmoe", "Rome")
    said = [guess for guess in guesses if "seen once" in guess]
    expected = (
        "categories: city has 5, 2 of them seen once (rows 6, 78); take out what is a typo, and "
        "such rows are rejected"
    )
    assert said == ([expected] if told else [])


def test_identifiers_that_differ_in_every_row(tmp_path: Path) -> None:
    """They are promised to be unique, and whoever comes again is the entity rather than they."""
    frame = small_frame().rename(columns={"customer": "customer_id"}).assign(
        order_id=[f"o{i}" for i in range(400)], token=[f"t{i * 7}" for i in range(400)],
        line_id=range(400), row=range(400), note=[f"they said {i}" for i in range(400)],
        other_id=[None, *range(1000, 1798, 2)],
    )  # fmt: skip
    project, guesses = infer(write(tmp_path, frame[frame.columns[::-1]]), "bought")
    unique = {name for name, spec in project.contract.columns.items() if spec.unique}
    assert unique == {"order_id", "token", "line_id"}
    assert "unique: order_id differs in every row; one that repeats is rejected" in guesses
    assert project.entity == "customer_id"
    assert "ignore: note is free text with 400 values" in guesses


HOURS = pd.Timedelta(hours=1)


def visits(days: int, customers: int | None, rows: int = 2_000) -> pd.DataFrame:
    """Rows spread over so many days from 2024-01-01."""
    random = np.random.default_rng(3)
    hours = np.sort(random.integers(0, days * 24, rows))
    frame = pd.DataFrame({"seen": pd.Timestamp("2024-01-01") + hours * HOURS})
    if customers:
        frame["customer_id"] = random.integers(0, customers, rows) * 3
    return frame.assign(age=random.normal(size=rows), bought=random.integers(0, 2, rows))


@pytest.mark.parametrize(
    ("days", "customers", "period", "held", "arrives_from"),
    [
        (184, 600, "month", 2, "2024-06-01"),  # ends on the second of July
        (366, 600, "month", 3, "2024-11-01"),
        (40, 600, "week", 2, "2024-02-05"),
        (10, 600, "day", 2, "2024-01-09"),
        (940, 600, "month", 9, "2026-05-01"),
        (184, None, "month", None, "2024-06-01"),
        (2, None, "value", None, None),  # two days: one is half of the rows
        (2, 600, None, None, None),  # nothing would be left to train on
        (184, 6, "month", None, "2024-06-01"),  # nobody would be in one of the parts
    ],
)
def test_time_is_cut_so_that_something_arrives_and_the_holdout_decides(
    tmp_path: Path,
    days: int,
    customers: int | None,
    period: str | None,
    held: int | None,
    arrives_from: str | None,
) -> None:
    frame = visits(days, customers)
    project, guesses = infer(write(tmp_path, frame), "bought")
    assert (project.time.period if project.time else None) == period
    assert project.split.holdout_periods == held
    since = project.time.arrives_from if project.time else None
    assert (str(since) if since else None) == arrives_from
    total, windows = len(frame), arriving(project, open_source(project))
    if since:
        later = frame["seen"] >= pd.Timestamp(str(since))
        assert 50 <= later.sum() <= 0.2 * total
        assert 1 <= len(windows) <= 3
        frame, total = frame[~later], total - int(later.sum())
    assert project.entity == ("customer_id" if customers == 600 else None)
    masks = rehearse(project).parts.masks
    assert small_holdout(int(masks["holdout"].sum()), total, project) == ""
    assert all(mask.any() for mask in masks.values())
    told = [guess for guess in guesses if guess.startswith("holdout: ")]
    assert len(told) == (period is not None)
    if held:
        rows, newest = int(masks["holdout"].sum()), frame["seen"].max()
        assert f"{rows:,} rows ({rows / total:.1%})" in told[0]
        start = pd.Timestamp(told[0].split("from ")[1].split(" on,")[0])
        assert 0.2 <= (frame["seen"] >= start).mean() <= 0.4
        assert start <= newest


def test_the_project_says_what_was_guessed_of_time(tmp_path: Path) -> None:
    project, guesses = infer(write(tmp_path, visits(366, None)), "bought")
    assert project.time
    assert str(project.time.arrives_from) == "2024-11-01"
    said = next(guess for guess in guesses if guess.startswith("arrives_from: 2024-11-01, so the"))
    assert "of the newest 2 months arrive later, are scored and monitored" in said
    assert "change it with time.arrives_from" in said
    assert project.contract.version == "0.1.0"
    _, guesses = infer(write(tmp_path, visits(2, None)), "bought")
    assert any(guess.startswith("arrives_from: none") for guess in guesses)


def test_of_a_large_file_all_rows_tell_what_a_sample_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.arange(4_001)
    draw = np.random.default_rng(3)
    frame = pd.DataFrame(
        {
            "customer_id": rows // 2 * 7 + 5_000,  # of a sample each differs
            "code": [f"k{row}" for row in draw.permutation(rows)],
            "amount": draw.gamma(2, 30, len(rows)).round(2),
            "age": draw.integers(18, 90, len(rows)).astype(float),
            "grade": rows % 6,
            "city": [("Rome", "Oslo", "Lima")[row % 3] for row in rows],
            "bought": draw.integers(0, 2, len(rows)),
        }
    )
    frame.loc[3, "amount"] = -5.5
    frame.loc[5, "grade"] = 9
    frame.loc[7, "age"] = np.nan
    frame.loc[9, "city"] = "Cork"
    file = write(tmp_path, frame)
    whole, guesses = infer(file, "bought")
    assert not [guess for guess in guesses if guess.startswith("rows:")]
    monkeypatch.setattr("lifecycle.scaffold.source.MOST_ROWS", 200)
    sampled, guesses = infer(file, "bought")
    assert sampled.contract == whole.contract
    assert (sampled.entity, sampled.ignore) == (whole.entity, whole.ignore)
    assert whole.contract.columns["city"].categories == ("Cork", "Lima", "Oslo", "Rome")
    assert guesses[0].startswith("rows: 251 of 4,001 looked at")
    assert "nullable: age (number) has 1 missing values" in guesses


def test_a_contract_that_nobody_has_read_may_change(settings: Settings, tmp_path: Path) -> None:
    """As it is corrected in the first minutes: without a new major version."""
    project, _ = infer(write(tmp_path, small_frame()), "bought")
    ingest(project, settings, first_window(project))
    file = tmp_path / "project.yaml"
    corrected = file.read_text().replace("    city: {", "    city: {nullable: true, ")
    corrected = corrected.replace("    age: {type: number", "    age: {type: integer")
    lines = [line for line in corrected.splitlines() if not line.startswith("    visits:")]
    file.write_text("\n".join(lines))
    changed = load_project(file)
    former = last_contract(settings, project.name)
    assert former
    assert required_bump(former, changed.contract) == "major"
    assert ingest(changed, settings, first_window(changed)).rows_rejected == 0


@pytest.mark.parametrize(
    ("file", "target", "name"),
    [
        ("customers.csv", "Churn", "customers_churn"),
        ("customers.csv", "Next Order (EUR)", "customers_next_order_eur"),
        ("telco_churn.csv", "Churn", "telco_churn"),
        ("https://x.example/a/2024.csv.gz", "y", "project_2024_y"),
        (f"{'long_' * 20}.csv", "y", f"{('long_' * 20)[:61]}_y"),
    ],
)
def test_a_project_is_named_after_file_and_target(file: str, target: str, name: str) -> None:
    assert project_name(file, target) == name


TODAY = pd.Timestamp.now("UTC").tz_localize(None).normalize()


@pytest.mark.parametrize(("odd", "rejected"), [(["2052-01-01"], 1), ([None], 1), ([None] * 3, 3)])
def test_a_few_times_that_are_none_are_told_and_rejected(
    settings: Settings, tmp_path: Path, odd: list[str | None], rejected: int
) -> None:
    frame = visits(366, None)
    frame["seen"] = frame["seen"].astype(str)
    plain, _ = infer(write(tmp_path, frame), "bought")
    frame.loc[frame.index[-len(odd) :], "seen"] = odd
    project, guesses = infer(write(tmp_path, frame), "bought")
    assert project.time == plain.time
    assert not project.contract.columns["seen"].nullable
    numbers = ", ".join(f"{2_000 - at:,}" for at in reversed(range(len(odd))))
    what = "in the future" if odd[0] else "missing"
    row = f"row{'s' * (len(odd) > 1)} {numbers}"
    assert any(guess.startswith(f"time: seen is {what} in {row}") for guess in guesses)
    assert ingest(project, settings, first_window(project)).rows_rejected == rejected


def test_bookings_have_times_to_come(tmp_path: Path) -> None:
    frame = visits(366, None)
    frame["seen"] += TODAY - pd.Timestamp("2024-07-01")
    project, guesses = infer(write(tmp_path, frame), "bought")
    assert project.time
    assert project.time.future == "allow"
    assert any(guess.startswith("time.future: allow, because") for guess in guesses)
    assert rehearse(project).violations == ()


def test_a_time_that_is_often_missing_is_none(tmp_path: Path) -> None:
    frame = visits(366, None)
    frame.loc[:39, "seen"] = pd.NaT
    project, guesses = infer(write(tmp_path, frame), "bought")
    assert project.time is None
    said = "ignore: seen is a time, but missing in 2.0% of the rows; to divide by it"
    assert any(line.startswith(said) for line in guesses)
    complete = frame.assign(also=pd.date_range("2023", periods=2_000, freq="h"))
    project, _ = infer(write(tmp_path, complete), "bought")
    assert project.time
    assert project.time.column == "also"


def test_protected_attributes_and_duplicates_are_told(tmp_path: Path) -> None:
    frame = small_frame().drop(columns="customer").assign(Sex="f", id=[f"x{n}" for n in range(400)])
    frame.loc[frame.index % 2 == 0, "Sex"] = "m"
    frame.loc[[10, 11, 12], ["age", "visits", "city", "Sex", "bought"]] = frame.loc[
        3, ["age", "visits", "city", "Sex", "bought"]
    ].to_numpy()
    project, guesses = infer(write(tmp_path, frame), "bought")
    assert (
        "protected: age, Sex: likely by the name, and features as it is; list under protected "
        "what must not decide"
    ) in guesses
    assert project.protected == ()
    assert {"age", "Sex"} <= set(project.input_columns)
    assert "# likely by its name: Sex" in (tmp_path / "project.yaml").read_text()
    told = [guess for guess in guesses if guess.startswith("duplicates: ")]
    same = int(frame.drop(columns="id").duplicated().sum())
    assert len(told) == 1
    assert f"{same} rows as an earlier one in every column but for 'id'" in told[0]


def test_protected_names() -> None:
    yes = ["sex", "Gender", "AGE", "PatientAge", "age_group", "ageYears", "Date of Birth", "race"]
    yes += ["maritalStatus", "MARITAL-STATUS", "native_country", "SeniorCitizen", "is_disabled"]
    yes += ["Foreign_Worker", "place_of_birth", "nationality"]
    no = [
        "page",
        "message",
        "usage",
        "average",
        "package",
        "stage",
        "housing_median_age",
        "country",
    ]
    no += ["mileage", "essex", "sextant", "trace", "HouseAge", "rate_marriage", "language", "birth"]
    assert protected_attributes([*yes, *no]) == yes


POISSON = np.random.default_rng(7)


@pytest.mark.parametrize(
    ("target", "task"),
    [
        (POISSON.poisson(0.8, 2_000), "count"),
        (POISSON.poisson(2.5, 2_000), "count"),
        (POISSON.negative_binomial(1, 0.2, 2_000), "count"),  # up to 50, as visits to a doctor
        (POISSON.poisson(0.8, 2_000).astype(float), "count"),
        (POISSON.poisson(60, 2_000), "regression"),
        (POISSON.choice([0, 0, 0, 2_500, 40_000, 7_100, 9_999], 2_000), "multiclass"),
        (POISSON.integers(0, 5, 2_000), "multiclass"),
        (POISSON.integers(0, 3, 2_000).astype(float), "multiclass"),
        (np.repeat([1, 2, 3, 4, 5, 6], [4, 60, 700, 700, 500, 36]), "regression"),  # no class of 4
        (np.round(POISSON.normal(50, 9, 2_000), 1), "regression"),
        (POISSON.integers(0, 2, 2_000).astype(float), "binary"),
    ],
)
def test_tasks_of_numbers(
    settings: Settings, tmp_path: Path, target: "np.ndarray[Any, Any]", task: str
) -> None:
    frame = small_frame(2_000).drop(columns="customer").assign(bought=target)
    project, guesses = infer(write(tmp_path, frame), "bought")
    assert project.task == task
    assert any(guess.startswith(f"task: {task}, because bought") for guess in guesses)
    if task == "binary":
        assert project.positive == 1.0
    done = ingest(project, settings, first_window(project))
    assert done.rows_rejected == 0
    assert split_dataset(project, settings, done).holdout.rows > 0


@pytest.mark.parametrize(
    ("module", "name", "target", "task"),
    [
        ("sklearn", "iris", "target", "multiclass"),
        ("sklearn", "wine", "target", "multiclass"),
        ("sklearn", "breast_cancer", "target", "binary"),
        ("sklearn", "diabetes", "target", "regression"),
        ("statsmodels", "randhie", "mdvis", "count"),
        ("statsmodels", "spector", "GRADE", "binary"),
        ("statsmodels", "fair", "affairs", "regression"),
        ("statsmodels", "heart", "survival", "regression"),
        ("statsmodels", "star98", "NABOVE", "regression"),
        ("statsmodels", "anes96", "PID", "multiclass"),
        ("statsmodels", "anes96", "vote", "binary"),
        ("statsmodels", "longley", "TOTEMP", "regression"),  # 16 rows
        ("statsmodels", "cpunish", "EXECUTIONS", "regression"),  # 17 rows
    ],
)
def test_data_sets_of_packages_make_projects_that_validate(
    tmp_path: Path, module: str, name: str, target: str, task: str
) -> None:
    if module == "sklearn":
        frame = getattr(sklearn.datasets, f"load_{name}")(as_frame=True).frame
    else:
        frame = getattr(statsmodels.datasets, name).load_pandas().data
    project, _ = infer(write(tmp_path, frame), target)
    assert project.task == task
    done = rehearse(project)
    assert done.accepted == done.rows == len(frame)
    assert done.violations == ()


@pytest.mark.parametrize("columns", [["seen"], ["seen", "same", "note"], []])
def test_nothing_left_to_learn_from(tmp_path: Path, columns: list[str]) -> None:
    frame = visits(366, None).assign(same=1, note=[f"they said {i}" for i in range(2_000)])
    with pytest.raises(TargetError) as caught:
        infer_project(write(tmp_path, frame[[*columns, "bought"]]), "bought")
    assert "has no column to learn 'bought' from" in str(caught.value)
    assert all(name in str(caught.value) for name in columns)


def test_an_only_column_stays_a_feature(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": np.arange(2_000) % 97 * 1.0, "y": np.arange(2_000) % 97 * 2.5})
    project, guesses = infer(write(tmp_path, frame), "y")
    assert project.input_columns == ("x",)
    assert any("a feature all the same, since there is no other" in guess for guess in guesses)


def test_another_separator_and_a_name_that_is_no_name(tmp_path: Path) -> None:
    file = tmp_path / "2024 Käufer-Daten.csv"
    small_frame().to_csv(file, index=False, sep=";")
    project, _ = infer(file, "bought")
    assert project.source.separator == ";"
    assert project.name == "project_2024_k_ufer_daten_bought"
    assert project.source.path == file.name


def test_column_names_that_yaml_would_misread(tmp_path: Path) -> None:
    frame = small_frame().rename(columns={"age": "no", "visits": "a: b", "city": "#3"})
    project, _ = infer(write(tmp_path, frame), "bought")
    assert set(project.contract.columns) == {"customer", "no", "a: b", "#3", "bought"}


@pytest.mark.parametrize(
    ("target", "positive"),
    [
        (["yes", "no", "no"], "yes"),
        ([1, 2, 2], 1),
        ([3, 2, 2], 3),
        (["True", "False", "False"], True),
        (["left", "stayed", "stayed"], "left"),
    ],
)
def test_positive(tmp_path: Path, target: list[Any], positive: Any) -> None:
    frame = small_frame(300).assign(bought=target * 100)
    project, _ = infer(write(tmp_path, frame), "bought")
    assert project.positive == positive


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("bougth", "no column 'bougth'; did you mean 'bought'?"),
        ("same", "'same' has one value only"),
        ("empty", "'empty' has no value"),
        ("name", "'name' is category with 40 values: only numbers and up to 20 classes"),
    ],
)
def test_unusable_targets(tmp_path: Path, target: str, says: str) -> None:
    frame = small_frame().assign(same=1, empty=None, name=[f"n{i % 40}" for i in range(400)])
    file = write(tmp_path, frame)
    with pytest.raises(TargetError) as caught:
        infer_project(file, target)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("target", "categories", "nullable", "comment"),
    [
        (["mid", "low", "high"] * 100, ("high", "low", "mid"), False, ""),
        (["b", "a", "c", "b", "a", None] * 50, ("a", "b", "c"), True, ""),
        ([5, 1, 3] * 100, (1, 3, 5), False, "`task: count` or `task: regression`"),
        ([-1, 0, 1] * 100, (-1, 0, 1), False, "write `task: regression`"),
    ],
)
def test_few_texts_or_whole_numbers_are_classes(
    settings: Settings,
    tmp_path: Path,
    target: list[Any],
    categories: tuple[Any, ...],
    nullable: bool,
    comment: str,
) -> None:
    frame = small_frame(300).drop(columns="customer").assign(bought=target)
    project, guesses = infer(write(tmp_path, frame), "bought")
    assert project.task == "multiclass"
    assert project.classes == categories
    assert project.contract.columns["bought"].nullable is nullable
    assert any(guess.startswith("task: multiclass, because bought has 3") for guess in guesses)
    text = (tmp_path / "project.yaml").read_text()
    assert comment in text
    assert ("# If bought is an amount" in text) is bool(comment)
    ingested = ingest(project, settings, first_window(project))
    assert ingested.rows_rejected == 0
    assert split_dataset(project, settings, ingested).holdout.rows > 0


def test_many_whole_numbers_may_be_counts(tmp_path: Path) -> None:
    amounts = [(i * 7919) % 53 for i in range(400)]
    project, _ = infer(write(tmp_path, small_frame().assign(bought=amounts)), "bought")
    assert project.task == "regression"
    file = tmp_path / "project.yaml"
    assert "write `task: count`" in file.read_text()
    file.write_text(file.read_text().replace("\ntask: regression", "\ntask: count"))
    assert load_project(file).metric == "poisson_deviance"
    below = [value - 20 for value in amounts]
    infer(write(tmp_path, small_frame().assign(bought=below)), "bought")
    assert "task: count" not in file.read_text()
    infer(write(tmp_path, small_frame().assign(bought=[v + 0.5 for v in amounts])), "bought")
    assert "task: count" not in file.read_text()


def test_suspects_of_classes() -> None:
    random = np.random.default_rng(3)
    codes = random.integers(0, 4, 2_000)
    frame = pd.DataFrame(
        {
            "same": np.array(list("wxyz"))[codes],
            "almost": codes + random.normal(size=2_000) * 0.1,
            "one": (codes == 2).astype(int),  # tells one class, not the others
            "noise": random.normal(size=2_000),
            "half": codes / 2,
        }
    )
    assert set(leakage_suspects(frame, np.eye(4)[codes])) == {"same", "almost", "half"}


def test_pairs_among_many_columns_and_of_rare_events() -> None:
    random = np.random.default_rng(3)
    target = random.poisson(40, 5_000).astype(float)
    frame = pd.DataFrame(random.normal(size=(5_000, 300))).add_prefix("c")
    frame["total"] = np.round(target + frame["c250"], 6)
    frame.loc[:20, "total"] = np.nan  # some rows do not count
    words = "total − c250 is the target"
    started = time.monotonic()
    assert leakage_suspects(frame, target) == {"c250": words, "total": words}
    assert time.monotonic() - started < 60
    rare = (random.random(5_000) < 0.004).astype(float)
    twins = pd.DataFrame({"one": random.normal(size=5_000)}).assign(other=lambda f: f["one"])
    assert leakage_suspects(twins, rare) == {}  # though their difference is 0, as nearly all are
    found = leakage_suspects(twins.assign(after=twins["one"] + rare), rare)
    assert found["after"] == "after − other is the target"


def test_unusable_files(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="No such file"):
        infer_project(tmp_path / "none.csv", "x")
    (tmp_path / "junk.csv").write_bytes(bytes(range(256)) * 10)
    with pytest.raises(SourceError, match="binary"):
        infer_project(tmp_path / "junk.csv", "x")


def test_suspects() -> None:
    random = np.random.default_rng(3)
    target = random.normal(size=2_000)
    frame = pd.DataFrame(
        {
            "copy": target * 2 + random.normal(size=2_000) * 0.05,
            "half": target * 0.5,
            "noise": random.normal(size=2_000),
            "grade": np.where(target > 0, "high", "low"),
            "id": [f"i{i}" for i in range(2_000)],
            "seen": pd.date_range("2020", periods=2_000),
        }
    )
    frame["rest"] = target - frame["noise"]
    found = leakage_suspects(frame, target)
    assert set(found) == {"copy", "half", "noise", "rest"}
    total = frame.drop(columns=["copy", "half", "rest"]).assign(total=target + frame["noise"])
    assert leakage_suspects(total, target) == dict.fromkeys(
        ("noise", "total"), "total − noise is the target"
    )
    assert found["rest"] == "noise + rest is the target"
    assert set(leakage_suspects(frame, (target > 0).astype(float))) == {"copy", "half", "grade"}
    assert leakage_suspects(frame, np.ones(2_000)) == {}


@pytest.mark.parametrize("end", ["csv.gz", "parquet", "jsonl", "xlsx", "json.bz2"])
def test_other_formats_are_inferred_and_read_alike(tmp_path: Path, end: str) -> None:
    """The same columns as from the CSV file, but for what only the format says."""
    frame = small_frame().assign(code=[f"{n % 90:03d}" for n in range(400)])
    frame["day"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(frame.index // 8, unit="D")
    frame.loc[3, "visits"] = None
    frame["visits"] = frame["visits"].astype("Int64")
    if end == "xlsx":  # which writes 18.0 as 18
        frame.loc[0, "age"] = 18.5
    frame.to_csv(tmp_path / "a.csv", index=False)
    file = tmp_path / f"b.{end}"
    if end == "csv.gz":
        frame.to_csv(file, index=False)
    elif end == "parquet":
        frame.to_parquet(file)
    elif end == "xlsx":
        frame.to_excel(file, index=False)
    else:
        frame.to_json(file, orient="records", lines=True, date_format="iso")
    expected, project = infer(tmp_path / "a.csv", "bought")[0], infer(file, "bought")[0]
    assert project.name == "b_bought"
    assert project.source.path == file.name
    assert project.source.format == {"csv.gz": "csv", "xlsx": "excel", "json.bz2": "jsonl"}.get(
        end, end
    )
    assert project.contract == expected.contract
    assert (project.entity, project.time) == (expected.entity, expected.time)
    assert project.contract.columns["code"].type in ("category", "string")
    pd.testing.assert_frame_equal(read_source(project), read_source(expected), check_dtype=False)


def test_only_files_are_inferred(tmp_path: Path) -> None:
    (tmp_path / "t" / "_delta_log").mkdir(parents=True)
    with pytest.raises(SourceError, match="`lifecycle init` reads files"):
        infer_project(tmp_path / "t", "y")


def panel(men: int = 60, years: int = 8) -> pd.DataFrame:
    random = np.random.default_rng(5)
    rows = men * years
    return pd.DataFrame(
        {
            "nr": np.repeat(random.permutation(10_000)[:men], years),
            "year": np.tile(np.arange(1980, 1980 + years), men),
            "school": np.repeat(random.integers(6, 16, men), years),
            "hours": random.integers(0, 60, rows),
            "union": random.integers(0, 2, rows),
        }
    )


def test_a_panel_is_told_and_its_year_has_no_end(tmp_path: Path) -> None:
    file = write(tmp_path, panel())
    project, said = infer(file, "union")
    assert (project.entity, project.time) == (None, None)
    told = next(guess for guess in said if guess.startswith("panel: "))
    assert "nr has 60 values, 8 rows each, at most one per year" in told
    assert "the same nr is in train and holdout; write: " in told
    assert told.endswith("--entity nr --time year")
    assert project.contract.columns["year"].maximum is None
    wanted = RoleOptions(time="year", entity="nr")
    text, said = infer_project(file, "union", wanted=wanted)
    assert not any(guess.startswith("panel: ") for guess in said)
    columns = yaml.safe_load(text)["contract"]["columns"]
    assert columns["year"] == {"type": "integer"}
    assert columns["hours"]["minimum"] == 0


@pytest.mark.parametrize(
    "change",
    [
        {"nr": lambda rows: rows["nr"] // 20},  # several of one number a year
        {"year": lambda rows: rows["year"] - 1980},  # no years
    ],
)
def test_no_panel(tmp_path: Path, change: dict[str, Any]) -> None:
    _, said = infer(write(tmp_path, panel().assign(**change)), "union")
    assert not any(guess.startswith("panel: ") for guess in said)


def test_an_entity_measured_by_the_year_is_told(tmp_path: Path) -> None:
    project, said = infer(write(tmp_path, panel().rename(columns={"nr": "man_id"})), "union")
    assert project.entity == "man_id"
    assert any("--entity man_id --time year" in guess for guess in said)


@pytest.mark.parametrize("rows", [150, 546])
@pytest.mark.parametrize("copy", [lambda y: y / 1000, lambda y: 0.004 * y + 7, np.log])
def test_a_copy_of_the_target_is_found_in_a_small_file(rows: int, copy: Any) -> None:
    random = np.random.default_rng(3)
    price = np.round(random.lognormal(11, 0.4, rows), -2)
    near = price * random.lognormal(0, 0.05, rows)  # explains 98 %, as last year's price may
    frame = pd.DataFrame({"copy": copy(price), "near": near, "noise": random.normal(size=rows)})
    assert leakage_suspects(frame, price) == {"copy": "explains 100% of the target alone"}
    trend = np.arange(rows) + random.normal(size=rows) / 10  # as everything else that grows
    grown = pd.DataFrame({"people": np.arange(rows)})
    assert leakage_suspects(grown, trend) == {}


@pytest.mark.parametrize(
    ("times", "says"),
    [
        (pd.date_range("2026-01-01", periods=4).repeat(100), "have fewer than 50 rows, or more "),
        (pd.date_range("2026-01-01", periods=3).repeat([170, 170, 60]), "for a holdout that"),
        (np.arange(2000, 2400), "since seen has whole numbers, which have no months or weeks"),
    ],
)
def test_why_nothing_arrives_later(tmp_path: Path, times: Any, says: str) -> None:
    frame = small_frame().drop(columns="customer").assign(seen=times)
    _, said = infer_project(write(tmp_path, frame), "bought", wanted=RoleOptions(time="seen"))
    assert says in next((s for s in said if s.startswith("arrives_from: ")), "")


def test_a_few_numbers_may_be_classes(tmp_path: Path) -> None:
    frame = small_frame().assign(edema=np.resize([0, 0.5, 1], 400))
    _, said = infer(write(tmp_path, frame), "edema")
    assert said[0].endswith(
        "with 3 values; if they are classes, write them as words, or as whole numbers from 0 on"
    )
