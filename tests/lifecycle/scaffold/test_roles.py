"""Guesses about roles: task, target, entity, identifiers and protected attributes."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from lifecycle.data.ingest import ingest
from lifecycle.data.split import split_dataset
from lifecycle.data.windows import first_window
from lifecycle.errors import TargetError
from lifecycle.project.loader import load_project
from lifecycle.scaffold.generate import infer_project
from lifecycle.scaffold.protected import protected_attributes
from lifecycle.scaffold.roles import RoleOptions
from lifecycle.settings import Settings
from tests.support.inference import infer, visits, write
from tests.support.small import small_frame


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


def test_what_names_a_person_is_not_stored(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    frame = small_frame().assign(
        name=[f"Ada {n:x}" for n in rng.integers(0, 300, 400)],
        e_mail=[f"{n:x}@example.org" for n in rng.integers(0, 300, 400)],
        product_name=[f"tea {n:x}" for n in rng.integers(0, 300, 400)],
    )
    project, guesses = infer(write(tmp_path, frame), "bought")
    dropped = {name for name, spec in project.contract.columns.items() if spec.pii == "drop"}
    assert dropped == {"name", "e_mail"}
    assert "pii: drop, since name may be personal: it is not stored" in guesses
    assert "product_name" in project.ignore


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
    options = RoleOptions(time="year", entity="nr")
    text, said = infer_project(file, "union", options=options)
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


def test_a_few_numbers_may_be_classes(tmp_path: Path) -> None:
    frame = small_frame().assign(edema=np.resize([0, 0.5, 1], 400))
    _, said = infer(write(tmp_path, frame), "edema")
    assert said[0].endswith(
        "with 3 values; if they are classes, write them as words, or as whole numbers from 0 on"
    )
