"""Both walks on a project that has lived: from a prediction to rows, code and run, and back."""

import hashlib
from collections.abc import Callable

import pytest

from lifecycle.data.ingest import ingest
from lifecycle.errors import DataError, RegistryError
from lifecycle.lake.read import read_version
from lifecycle.lineage.graph import Graph, Lineage, Node
from lifecycle.lineage.walk import lineage
from lifecycle.project import Project
from lifecycle.records import Window
from lifecycle.runtime.identity import code_digest, lock_digest
from lifecycle.runtime.run import git_commit
from lifecycle.settings import Settings
from tests.support.lived import ASKED, RUN, Lived
from tests.support.small import small_frame


def walk(lived: Lived, ref: str) -> Lineage:
    return lineage(lived.project, lived.settings, ref)


def ids(found: Lineage) -> set[str]:
    return {node.id for node in found.nodes}


def edges(found: Lineage) -> set[tuple[str, str]]:
    return {(edge.source, edge.target) for edge in found.edges}


def test_from_a_prediction_to_rows_code_and_run(lived: Lived) -> None:
    found = walk(lived, f"{ASKED}-0")
    code, run = (next(n for n in found.nodes if n.kind == kind) for kind in ("code", "run"))
    source = next(n for n in found.nodes if n.kind == "source")
    assert ids(found) == {
        f"prediction:{ASKED}-0",
        "model:1",
        "train@0",
        "validation@0",
        "holdout@0",
        "accepted@0",
        "rows:train@0",
        code.id,
        run.id,
        source.id,
    }
    assert {
        (source.id, "accepted@0"),
        ("accepted@0", "train@0"),
        ("train@0", "model:1"),
        ("holdout@0", "model:1"),
        (code.id, "model:1"),
        (run.id, "model:1"),
        ("model:1", f"prediction:{ASKED}-0"),
        ("train@0", "rows:train@0"),
        ("rows:train@0", f"prediction:{ASKED}-0"),
    } <= edges(found)
    assert source.digest == lived.made.ingested.source_digest
    assert source.facts["place"].endswith("small.csv")
    assert code.digest == lived.trained.identity.code
    assert code.facts["lock"] == lock_digest()
    assert code.facts["package"] == code_digest("any")
    assert code.facts["commit"] == git_commit()
    assert run.facts["flow run"] == RUN.id
    assert run.name == f"run {RUN.name}"
    assert run.facts["by"] == "ada"
    assert run.facts["MLflow run"] == lived.trained.model.run_id
    dataset = found.node("accepted@0")
    assert dataset.digest == lived.made.ingested.dataset.digest
    assert (dataset.facts["run"], dataset.facts["code"]) == (RUN.id, code_digest("any"))


def test_the_exact_rows_of_the_entity_with_personal_values_masked(lived: Lived) -> None:
    rows = walk(lived, ASKED).node("rows:train@0")
    part = read_version(lived.made.split.train)
    theirs = part.index[part["customer"] == lived.entity]
    assert len(theirs)
    assert list(rows.facts) == ["count", *(f"row {at}" for at in theirs)]
    told = rows.facts[f"row {theirs[0]}"]
    assert f"age={int(part['age'][theirs[0]])}" in told
    assert "city=…" in told
    assert str(part["city"][theirs[0]]) not in told


@pytest.mark.parametrize("by", ["accepted", "source"])
def test_back_from_data_to_all_they_led_to(lived: Lived, by: str) -> None:
    digests = {
        "accepted": lived.made.ingested.dataset.digest,
        "source": lived.made.ingested.source_digest,
    }
    found = walk(lived, digests[by][:12])
    assert {
        "train@0",
        "validation@0",
        "holdout@0",
        "model:1",
        "release:1",
        "predictions@0",
        "predictions@1",
        "log:1",
    } <= ids(found)
    assert ("rejected@0" in ids(found)) == (by == "source")
    log = found.node("log:1")
    assert (log.facts["rows"], log.facts["errors"]) == ("3", "1")
    release = found.node("release:1")
    assert "promote by ada" in release.facts["2"]
    assert any(node.kind == "monitoring" for node in found.nodes)
    assert ("accepted@0", "predictions@0") in edges(found)
    assert ("holdout@0", "predictions@1") in edges(found)


@pytest.mark.parametrize("ref", ["model:1", "champion", "model:champion", "challenger"])
def test_names_of_a_model(lived: Lived, ref: str) -> None:
    assert walk(lived, ref).subject == "model:1"


def test_names_by_table_and_digest(lived: Lived) -> None:
    assert walk(lived, "train").subject == "train@0"
    assert walk(lived, "predictions").subject == "predictions@1"
    assert walk(lived, lived.trained.model.digest).subject == "model:1"
    assert walk(lived, lived.trained.model.identity[:8]).subject == "model:1"
    assert walk(lived, lived.trained.identity.code[:10]).subject.startswith("code:")


@pytest.mark.parametrize(
    ("ref", "error", "says"),
    [
        ("model:9", RegistryError, "it has model:1"),
        ("model:best", RegistryError, "no model 'best'"),
        ("train@7", DataError, "train has no version '7'; it has train@0"),
        ("current", DataError, "no versions yet"),
        ("nothing", DataError, "nothing called 'nothing'"),
        ("ffffffffffff", DataError, "nothing called"),
        ("twice", DataError, "had 2 rows; name one of them, such as twice-0 or twice-1"),
    ],
)
def test_what_is_not_there(lived: Lived, ref: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        walk(lived, ref)


def test_a_project_without_anything(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    with pytest.raises(RegistryError, match="none yet"):
        lineage(make_project(), settings, "champion")


def test_a_walk_takes_no_side_ways() -> None:
    graph = Graph()
    for name in "abcde":
        graph.add(Node(id=name, kind="dataset", name=name))
    for source, target in ("ab", "bc", "ad", "ec"):
        graph.link(source, target, "made")
    graph.link("gone", "b", "made")
    found = graph.around("small", "b")
    assert ids(found) == {"a", "b", "c"}, "not d, another child of a, nor e, another parent of c"
    assert edges(found) == {("a", "b"), ("b", "c")}


def test_the_hash_of_a_tracked_file_is_shown(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    project = make_project(source={"path": "small.csv.dvc"})
    content = (project.folder / "small.csv").read_bytes()
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    (project.folder / "small.csv.dvc").write_text(f"outs:\n- md5: {md5}\n  path: small.csv\n")
    ingest(project, settings, Window())
    for ref in (f"md5:{md5}", md5[:10]):
        found = lineage(project, settings, ref)
        assert found.node(found.subject).digest == f"md5:{md5}"
        assert "accepted@0" in ids(found)


def test_an_incremental_version_comes_from_the_one_before(
    make_project: Callable[..., Project], settings: Settings
) -> None:
    project = make_project(
        small_frame(100),
        source={"path": "parts", "incremental": {"by": "files"}},
    )
    parts = project.folder / "parts"
    parts.mkdir()
    for number in (0, 1):
        small_frame(200).iloc[number * 100 : number * 100 + 100].to_csv(
            parts / f"{number}.csv", index=False
        )
        ingest(project, settings, Window())
    assert ("accepted@0", "accepted@1") in edges(lineage(project, settings, "accepted@1"))
