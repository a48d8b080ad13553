"""What a person sees of lineage: trees, a picture, JSON; the command; the project's page."""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from lifecycle.cli.main import app
from lifecycle.errors import BackendError, ProjectError
from lifecycle.lineage.graph import Edge, Kind, Lineage, Node
from lifecycle.lineage.picture import COLOURS, dot, draw, mermaid, short, trees
from lifecycle.lineage.walk import lineage
from lifecycle.page.gather import read_state
from lifecycle.page.readers import read_states
from lifecycle.page.site import site_page
from lifecycle.page.sources import Sources
from lifecycle.settings import Settings
from tests.support.lived import ASKED, RUN, Lived

Run = Callable[..., Result]


@pytest.fixture
def run(lived: Lived, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("LIFECYCLE_HOME", str(lived.settings.home))
    return lambda *given: CliRunner().invoke(
        app, [given[0], str(lived.project.file), *map(str, given[1:])]
    )


def test_the_trees_tell_both_ways(run: Run) -> None:
    out = run("lineage", "model:1").output
    before, after = out.split("led to")
    for said in ("small.csv was ingested as it", "train version 0 taught it", "by: ada", "lock:"):
        assert said in before
    for said in ("became release of version 1", "answered 3 logged predictions", "monitoring of"):
        assert said in after
    assert "accepted version 0 was split into it (above)" in before


def test_what_led_to_nothing_says_so(run: Run) -> None:
    node = Node(id="part:a", kind="part", name="train")
    found = Lineage(project="small", subject=node.id, nodes=(node,), edges=())
    said = []
    for tree in trees(found):
        with (console := Console(width=80)).capture() as out:
            console.print(tree)
        said += out.get().splitlines()
    assert said == [
        "train was made from",
        "└── nothing that is known",
        "train led to",
        "└── nothing yet",
    ]


def test_events_are_told_once(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "events.ndjson"
    first, again = (run("lineage", "model:1", "--openlineage", file).output for _ in range(2))
    count = len(file.read_text().splitlines())
    assert f"{count} OpenLineage events → {file}\n" in first
    assert f"0 OpenLineage events → {file} ({count} more are in it already)\n" in again


def test_json(run: Run, lived: Lived) -> None:
    found = Lineage.model_validate_json(run("lineage", f"{ASKED}-0", "--json").stdout)
    assert found == lineage(lived.project, lived.settings, f"{ASKED}-0")


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("lineage.mmd", "flowchart LR"),
        ("lineage.md", "# Lineage of accepted version 0 (small)"),
        ("lineage.dot", "digraph lineage {"),
        ("lineage.gv", "digraph lineage {"),
    ],
)
def test_a_picture_has_every_box_and_verb(
    lived: Lived, tmp_path: Path, name: str, first: str
) -> None:
    found = lineage(lived.project, lived.settings, "accepted")
    lines = draw(found, tmp_path / name).read_text().splitlines()
    assert lines[0] == first
    assert sum("fill" in line for line in lines if "node [" not in line) == len(found.nodes)
    assert sum(" -> " in line or " -->|" in line for line in lines) == len(found.edges)
    for label in {edge.what for edge in found.edges}:
        assert any(label in line for line in lines)
    assert [file.name for file in tmp_path.iterdir()] == [name]


HOSTILE = 'a "b" <script>alert(1)</script> ]--> `c` | #1; {d} \\ & end'


def hostile() -> Lineage:
    nodes = [
        Node(id=f"part:{at}", kind="part", name=HOSTILE, facts={"rows": HOSTILE}) for at in "ab"
    ]
    edge = Edge(source="part:a", target="part:b", what=HOSTILE)
    return Lineage(project="small", subject="part:a", nodes=tuple(nodes), edges=(edge,))


def test_names_of_any_text_stay_text() -> None:
    labels = re.findall(r'\["(.*)"\]|\|"(.*)"\|', mermaid(hostile()))
    assert len(labels) == 3, "two boxes, an edge"
    for label in map("".join, labels):
        assert not set(re.sub("<b>|</b>|<br/>", "", label)) & set('"`\\&<>[]{}()|')
    drawn = [line for line in dot(hostile()).splitlines() if "script" in line]
    assert len(drawn) == 4, "a title, two boxes, an edge"
    for line in drawn:
        label = re.search(r"label=<(.*)>(, fillcolor|\]|;)", line)
        assert label, line
        ElementTree.fromstring(f"<L>{label[1]}</L>")  # noqa: S314 - our own


def test_through_the_command(run: Run, tmp_path: Path) -> None:
    image = tmp_path / "lineage.md"
    assert "Drawn" in run("lineage", ASKED, "--picture", image).output
    assert "```mermaid\nflowchart LR\n" in image.read_text()


def test_a_picture_of_another_kind(lived: Lived, tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=r"\.mmd \(Mermaid\) or \.dot"):
        draw(lineage(lived.project, lived.settings, "accepted"), tmp_path / "lineage.gif")


def test_every_kind_has_its_colour() -> None:
    assert set(COLOURS) == set(get_args(Kind))


def test_diff(run: Run, lived: Lived) -> None:
    out = run("diff", "train@0", "holdout@0").output
    assert "train@0, 243 rows" in out
    assert "by whole rows" in out
    assert "Kolmogorov-Smirnov" in out
    assert '"added"' in run("diff", "accepted", "0", "0", "--json").stdout
    assert "the same content" in run("diff", "0", "0").output
    assert "accepted has no version 7" in str(run("diff", "0", "7").exception)
    assert "name two versions" in str(run("diff", "0").exception)


@pytest.mark.parametrize(
    ("value", "shown"),
    [("a" * 64, "a" * 12), ("md5:" + "b" * 32, "md5:" + "b" * 12), ("small.csv", "small.csv")],
)
def test_digests_are_shortened(value: str, shown: str) -> None:
    assert short(value) == shown


def test_the_page_has_what_the_stores_have(lived: Lived, tmp_path: Path) -> None:
    project, settings, model = lived.project, lived.settings, lived.trained.model
    state = read_state(project, settings)
    [version] = state.versions
    assert (version.version, version.digest) == (model.version, model.digest)
    assert version.run_id == model.run_id
    estimate = lived.trained.evaluation.metrics[project.metric]
    assert version.metrics[project.metric] == estimate
    assert version.baseline == lived.trained.baseline.metrics[project.metric].value
    assert version.parts == {
        "training": "train@0",
        "validation": "validation@0",
        "holdout": "holdout@0",
    }
    assert (version.who, version.flow_run, version.aliases[-1]) == ("ada", RUN.id, "champion")
    assert [change.action for change in state.changes] == ["deploy", "promote"]
    [window], [monitoring] = state.windows, state.monitorings
    assert (window.window, window.version) == ("all rows", 1)
    assert window.rows == lived.scored.predictions.rows
    assert window.quality(project.metric) is not None
    assert monitoring.window == "all rows"
    assert state.lineage is not None
    assert {"train@0", "model:1", "release:1"} <= {node.id for node in state.lineage.nodes}
    html = site_page(project, [state], Sources(tmp_path))
    assert f"{estimate.value:.3g} ({estimate.low:.3g} to {estimate.high:.3g})" in html
    assert model.run_id in html


@pytest.fixture
def far_away(lived: Lived, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment `far`, whose MLflow does not answer, beside the own one."""
    folder = tmp_path / "deployments"
    folder.mkdir()
    (folder / "far.env").write_text("LIFECYCLE_MLFLOW_TRACKING_URI=http://127.0.0.1:9\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIFECYCLE_HOME", str(lived.settings.home))


@pytest.mark.usefixtures("far_away")
def test_an_environment_that_does_not_answer_is_a_state(lived: Lived) -> None:
    own, far = read_states(lived.project, lived.settings, ["far"])
    assert own.versions
    assert far.env == "far"
    assert "127.0.0.1:9" in far.problem


def test_a_comparison_refuses_what_is_no_version(run: Run) -> None:
    for refs, words in (
        (("1", "7"), "has no version or run '7'; it has the versions 1"),
        (("1", "champion"), "two of these are the same version"),
    ):
        assert words in str(run("compare", *refs).exception)


def test_versions_shows_the_metric(run: Run, lived: Lived) -> None:
    value = lived.trained.evaluation.metrics[lived.project.metric].value
    assert f"{value:.4f}" in run("versions").output


def test_the_page_is_a_folder_that_can_be_handed_on(run: Run, tmp_path: Path) -> None:
    run("page", "--output", tmp_path / "site", "--only")
    html = (tmp_path / "site" / "index.html").read_text()
    links = [link for link in re.findall(r'href="([^"#:,]+)"', html) if link]
    assert any("monitoring" in link for link in links)
    assert all((tmp_path / "site" / link).is_file() for link in links)


@pytest.mark.usefixtures("far_away")
def test_the_own_environment_has_to_answer(lived: Lived, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFECYCLE_MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(BackendError, match=r"MLflow at http://127\.0\.0\.1:9"):
        read_states(lived.project, Settings.load(), ["far"])
