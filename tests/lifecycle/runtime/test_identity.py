"""What shapes a result is named, is there, and is all that counts for the result's identity."""

import importlib
import inspect
import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import grimp
import pytest

from lifecycle.data import ingest
from lifecycle.project.loader import load_project
from lifecycle.records import DatasetVersion, Split, Window
from lifecycle.runtime import identity
from lifecycle.runtime.identity import SHAPED_BY, Result, code_digest, identity_of
from lifecycle.runtime.run import provenance
from lifecycle.serving.deployment import replica_version
from lifecycle.settings import Settings

EXAMPLE = identity.PACKAGE.parent / "examples/health_visits/project.yaml"
TASKS = ("data", "quality", "training")
ENTRIES = {
    "data": ("data.ingest", "data.incremental", "data.split"),
    "features": ("features.join", "features.store"),
    "model": ("training.fit", "training.tuning.search", "training.distributed"),
    "checks": ("quality.checks", "quality.own_checks"),
    "answers": ("serving.replicas", "serving.endpoint"),
    "server": ("runtime.warm_server", "runtime.servers"),
}
"""A result → the modules of `lifecycle` that make it."""
SHAPELESS = {
    "errors",
    "redaction",
    "settings",
    "environments",
    "audit",
    "ingress",
    "runtime.cluster",
    "runtime.files",
    "runtime.logs",
    "runtime.nodes",
    "runtime.process",
    "runtime.ray_internals",
    "runtime.remote_driver",
    "runtime.run",
    "runtime.servers",
    "runtime.traces",
}
"""What those import that only moves, names or reports results."""
STORAGE = {"lake.manifest", "lake.table", "lake.write"}
"""Reading checks what is read against digests: whatever these do, a model's rows are the same."""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the package, whose files are what is hashed."""
    copy = tmp_path / "lifecycle"
    shutil.copytree(identity.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(identity, "PACKAGE", copy)
    code_digest.cache_clear()
    yield copy
    code_digest.cache_clear()


def comment(file: Path) -> None:
    """Change a comment of a module."""
    file.write_text(file.read_text() + "# a comment that was corrected\n")
    code_digest.cache_clear()


def keys(settings: Settings) -> dict[str, str]:
    """Everything that says whether work is done again, of one example."""
    project = load_project(EXAMPLE)
    part = DatasetVersion(uri="lake/table", version=1, digest="d" * 64, rows=7)
    split = Split(train=part, validation=part, holdout=part, rule="by entity", withheld=0)
    made: dict[str, str] = {
        "ingestion": ingest._request(project, Window(), "source", frozenset()),
        "model": identity_of(project, split, "", 1).digest,
        "replica": replica_version(("bundle", part, project)),
        "lineage": provenance()["code"],
        "server": code_digest("server"),
        "view": code_digest("features"),
    }

    class Arguments(dict[str, Any]):
        def __missing__(self, name: str) -> str:
            return name

    for module in TASKS:
        for value in vars(importlib.import_module(f"tasks.{module}")).values():
            wrapped = inspect.isfunction(value) and inspect.getclosurevars(value).nonlocals
            task = wrapped["cached"] if wrapped and "cached" in wrapped else value  # by `checked`
            if key := getattr(task, "cache_key_fn", None):
                context = SimpleNamespace(task=task)
                made[task.name] = key(context, Arguments(settings=settings, today=date.today()))
    return made


def test_a_comment_in_lineage_changes_no_key(package: Path, settings: Settings) -> None:
    """No cache key, no ingestion, no replica, no model, no server."""
    before = keys(settings)
    assert {"ingest", "split", "tune", "fit", "check"} <= before.keys()
    for file in (package / "lineage").glob("*.py"):
        comment(file)
    comment(package / "cli/main.py")
    comment(package / "governance/erase.py")
    assert keys(settings) == before


@pytest.mark.parametrize(
    ("file", "same"),
    [
        ("data/split.py", {"model", "tune", "fit", "measure-noise", "check", "server"}),
        ("training/fit.py", {"ingest", "split", "ingestion", "view", "server"}),
        ("features/store.py", {"ingest", "split", "ingestion", "model", "fit", "server"}),
        ("quality/checks.py", {"ingest", "split", "fit", "model", "replica", "server"}),
        ("serving/endpoint.py", {"ingest", "split", "fit", "check", "model", "server"}),
        ("project/contract.py", set()),
    ],
)
def test_a_change_counts_where_it_shapes_a_result(
    package: Path, settings: Settings, file: str, same: set[str]
) -> None:
    before = keys(settings)
    comment(package / file)
    after = keys(settings)
    assert {name for name in before if before[name] == after[name]} >= same
    assert after["lineage"] != before["lineage"]
    assert after != before


@pytest.mark.parametrize("part", sorted({part for parts in SHAPED_BY.values() for part in parts}))
def test_a_renamed_part_fails_and_weakens_no_identity(package: Path, part: str) -> None:
    path = package / part
    path.rename(path.with_name("renamed"))
    for result in (result for result, parts in SHAPED_BY.items() if part in parts):
        code_digest.cache_clear()
        with pytest.raises(FileNotFoundError, match=r"\S+ shapes results and is gone"):
            code_digest(result)


def test_every_result_has_its_parts() -> None:
    assert set(get_args(Result)) == {*SHAPED_BY, "any"}
    assert len({code_digest(result) for result in get_args(Result)}) == len(get_args(Result))


@pytest.mark.parametrize("result", SHAPED_BY)
def test_what_makes_a_result_imports_only_what_is_named(result: Result) -> None:
    graph = grimp.build_graph("lifecycle")
    named = [part.removesuffix(".py").replace("/", ".") for part in SHAPED_BY[result]]
    known = [*named, *SHAPELESS, *(STORAGE if result in ("model", "checks") else ())]
    unnamed = {
        name
        for entry in ENTRIES[result]
        for module in graph.find_upstream_modules(f"lifecycle.{entry}")
        if (name := module.removeprefix("lifecycle."))
        if not any(name == part or name.startswith(f"{part}.") for part in known)
        if not is_package(name)
    }
    assert unnamed == set()


def is_package(name: str) -> bool:
    """Whether a module is the `__init__.py` of a package: it only passes on names."""
    return (identity.PACKAGE / name.replace(".", "/")).is_dir() or name == "lifecycle"
