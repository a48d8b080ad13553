"""Project files written by `lifecycle init`: they work unchanged, on real and awkward files."""

from pathlib import Path
from typing import Any

import pytest
import sklearn.datasets
import statsmodels.datasets

from lifecycle.data.contract import last_contract, required_bump
from lifecycle.data.ingest import ingest
from lifecycle.data.preview import rehearse
from lifecycle.data.sources import open_source
from lifecycle.data.split import split_dataset
from lifecycle.data.windows import arriving, first_window
from lifecycle.project.loader import load_project
from lifecycle.scaffold.generate import infer_project, project_name
from lifecycle.settings import Settings
from tests.support.inference import infer, write
from tests.support.small import small_frame


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
