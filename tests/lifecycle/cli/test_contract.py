"""`lifecycle contract`: everything that is promised, and what changed since the last ingestion."""

from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from lifecycle.cli.main import app
from lifecycle.data.contract import contract_note
from lifecycle.lake.table import table_uri
from lifecycle.lake.write import write_version
from lifecycle.project import Project
from lifecycle.settings import Settings
from tests.support.small import SMALL, small_frame

CONTRACT: dict[str, Any] = SMALL["contract"] | {
    "version": "2.1.0",
    "owner": "data@shop",
    "description": "Visits to the shop.",
    "key": ["customer", "visits"],
    "rules": [{"name": "grown", "expression": "age >= 18", "severity": "warning"}],
    "rows": {"minimum": 10},
    "retention": {"days": 30},
}
COLUMNS: dict[str, Any] = SMALL["contract"]["columns"]


@pytest.fixture
def show(
    make_project: Callable[..., Project], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Print the contract with some of its keys, and some of a column's, changed."""
    monkeypatch.setenv("LIFECYCLE_HOME", str(settings.home))
    monkeypatch.setenv("COLUMNS", "200")

    def show(column: str = "age", spec: dict[str, Any] | None = None, **changes: Any) -> str:
        columns = COLUMNS | {column: COLUMNS[column] | (spec or {})}
        project = make_project(contract=CONTRACT | {"columns": columns} | changes)
        done = CliRunner().invoke(app, ["contract", str(project.file)])
        assert done.exit_code == 0, done.output
        return done.output

    return show


def ingested(settings: Settings, project: Project) -> None:
    uri = table_uri(settings, project.name, "accepted")
    write_version(small_frame(), uri, note=contract_note(project.contract))


def test_everything_is_there(show: Callable[..., str]) -> None:
    spec = {
        "unit": "years",
        "pii": "keep",
        "pii_class": "indirect",
        "expect": {"mean": [20, 60], "missing_share": [None, 0.1], "severity": "warning"},
        "description": "age [at the visit]",
    }
    text = show("age", spec)
    for said in (
        "small contract 2.1.0, owner: data@shop",
        "Visits to the shop.",
        "age [at the visit]",
        "keep, indirect",
        "may be missing; 0 to 120; missing share ≤ 0.1 (warning); mean 20 to 60 (warning)",
        "one of Rome, Oslo, Lima",
        "key: customer, visits",
        "rule grown: age >= 18 (warning)",
        "rows: ≥ 10",
        "retention: 30 days",
        "rejected: at most 10.00% of the rows",
        "other columns: left out",
        "Not ingested under a contract yet.",
    ):
        assert said in text
    assert "years" in next(line for line in text.splitlines() if "at the visit" in line)


def test_what_changed_since_the_last_ingestion(
    show: Callable[..., str], make_project: Callable[..., Project], settings: Settings
) -> None:
    ingested(settings, make_project(contract=CONTRACT))
    assert "The same as was ingested last, 2.1.0." in show()
    minor = show("city", {"categories": ["Rome", "Oslo"]})
    assert "Since 2.1.0, which was ingested last (minor change):" in minor
    assert "  ~ columns.city.categories: never 'Lima' any more (minor)" in minor
    assert "refuses" not in minor
    major = show("age", {"unit": "days", "maximum": 50_000}, version="2.2.0")
    assert "~ columns.age.maximum: 120 → 50000 (major)" in major
    assert "Ingestion refuses it as 2.2.0: set contract.version: 3.0.0" in major
