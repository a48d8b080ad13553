"""Sources by environment: one project file, other data in each environment."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lifecycle.data.sources import open_source
from lifecycle.errors import ProjectError
from lifecycle.project import Project
from lifecycle.project.loader import in_environment, load_project
from lifecycle.runtime.identity import project_digest
from tests.support.small import SMALL, small_frame

pytestmark = pytest.mark.unit

SOURCE: dict[str, Any] = {
    "path": "small.csv",
    "missing": ["?"],
    "encoding": "cp1252",
    "environments": {
        "staging": {"path": "staging.csv"},
        "prod": {"format": "sql", "table": "visits", "credentials": "WAREHOUSE_URL"},
    },
}


def write(folder: Path, **source: Any) -> Path:
    file = folder / "project.yaml"
    file.write_text(yaml.safe_dump(SMALL | {"source": source}, sort_keys=False))
    return file


def test_an_environment_overrides_only_what_it_names(tmp_path: Path) -> None:
    file = write(tmp_path, **SOURCE)
    dev, staging, prod = (load_project(file, env).source for env in ("dev", "staging", "prod"))
    assert (dev.path, dev.missing, dev.encoding) == ("small.csv", ("?",), "cp1252")
    assert (staging.path, staging.missing, staging.encoding) == ("staging.csv", ("?",), "cp1252")
    # another format keeps the notation of cells and nothing of the place
    assert (prod.format, prod.table, prod.path) == ("sql", "visits", "")
    assert (prod.missing, prod.credentials) == (("?",), "WAREHOUSE_URL")
    assert not dev.environments
    assert not prod.environments


def test_a_source_of_another_environment_changes_nothing_here(tmp_path: Path) -> None:
    view = {
        "source": {"path": "facts.csv", "environments": {"prod": {"path": "all.csv"}}},
        "columns": {"customer": {"type": "integer"}, "at": {"type": "integer"}},
        "key": "customer",
        "time": "at",
        "function": "facts:latest",
        "features": {"spent": {"type": "number"}},
    }
    contract: Any = SMALL["contract"]
    columns = contract["columns"] | {"week": {"type": "integer"}}
    changes = SMALL | {
        "source": SOURCE,
        "time": {"column": "week"},
        "contract": contract | {"columns": columns},
        "feature_views": {"facts": view},
    }
    file = tmp_path / "project.yaml"

    def digests() -> list[Any]:
        file.write_text(yaml.safe_dump(changes))
        projects = [load_project(file, env) for env in ("dev", "prod")]
        return [(project_digest(p), p.model_dump(mode="json")) for p in projects]

    dev, prod = digests()
    view["source"]["environments"]["prod"]["path"] = "more.csv"  # type: ignore[index]
    changes["source"] = SOURCE | {
        "environments": SOURCE["environments"] | {"staging": {"path": "other.csv"}}
    }
    dev_after, prod_after = digests()
    assert dev_after == dev
    assert prod_after != prod


def test_a_project_may_have_no_source_but_those_of_environments(tmp_path: Path) -> None:
    file = write(tmp_path, missing=["?"], environments={"prod": {"path": "small.csv"}})
    small_frame().to_csv(tmp_path / "small.csv", index=False)
    project = load_project(file, "prod")
    assert [part.name for part in open_source(project).parts()] == ["small.csv"]
    with pytest.raises(ProjectError) as caught:
        load_project(file, "dev")
    assert str(caught.value) == (
        f"{file}:5: source.environments: has no entry 'dev', and source names no place for the "
        "others: add one"
    )
    with pytest.raises(ProjectError, match="load the project with one"):
        open_source(load_project(file))


def test_another_source_is_of_the_kind_that_the_environment_has(tmp_path: Path) -> None:
    project = load_project(write(tmp_path, **SOURCE))
    assert in_environment(project, "staging").with_source("new.csv").source.encoding == "cp1252"
    assert in_environment(in_environment(project, "staging"), "prod").source.path == "staging.csv"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"paht": "x.csv"}, "source.environments.prod.paht: unknown key; did you mean 'path'?"),
        ({"format": "sql"}, "source.environments.prod.format: sql takes exactly one of table"),
        ({"table": "visits"}, "source.environments.prod.table: it has no meaning for format: csv"),
        ({"dates": {"aeg": "%Y-%m"}}, "source.environments.prod.dates names 'aeg'"),
        (
            {"incremental": {"by": "watermark", "column": "vists"}},
            "source.environments.prod.incremental.column names 'vists'",
        ),
        (
            {"incremental": {"by": "watermark", "column": "age"}},
            "source.environments.prod.incremental.column: 'age' has contract type number",
        ),
        ({"path": "s3://me:secret@x/y.csv"}, "source.environments.prod.path: it holds a password"),
    ],
)
def test_an_unusable_entry_is_told_with_its_line(
    tmp_path: Path, entry: dict[str, Any], message: str
) -> None:
    file = write(tmp_path, path="small.csv", environments={"prod": entry})
    with pytest.raises(ProjectError) as caught:
        load_project(file)
    text = str(caught.value)
    assert message in text, text
    line = int(text.split(":")[1])
    written = file.read_text().splitlines()[line - 1]
    keys = message.split(" ")[0].rstrip(":").rpartition("environments.")[2].split(".")
    assert any(key in written for key in keys), written


def test_a_password_for_one_server_is_not_sent_to_another(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        path="https://one.example/a.csv",
        credentials="ONE_TOKEN",
        environments={
            "prod": {"path": "https://two.example/a.csv"},
            "test": {"path": "https://one.example/b.csv"},
        },
    )
    assert load_project(file, "prod").source.credentials is None
    assert load_project(file, "test").source.credentials == "ONE_TOKEN"


def test_every_flow_takes_the_source_of_its_environment(
    make_project: Callable[..., Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.runs import _in_environment

    project = make_project(source={"path": "small.csv", "environments": {"prod": {"path": "x"}}})
    assert _in_environment(project, "prod").source.path == "x"
    monkeypatch.setenv("LIFECYCLE_ENV", "prod")
    assert _in_environment(project, None).source.path == "x"
    assert _in_environment(project, "dev").source.path == "small.csv"
