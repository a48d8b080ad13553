"""Pages in headless Chromium: rules of accessibility, keyboard, phone, offline."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lifecycle.lake.read import read_version
from lifecycle.monitoring.monitor import monitor_windows
from lifecycle.page.site import site_page
from lifecycle.page.sources import Sources
from lifecycle.page.state import EnvironmentState
from lifecycle.profiling import profile
from lifecycle.project import Project
from lifecycle.quality.card_page import card_page, difference_page
from lifecycle.quality.evaluation_page import evaluation_page
from lifecycle.records import Evaluated, Gain, Window
from lifecycle.release.cards import read_card
from lifecycle.runtime.html import Cell, PageSection, Table, page, templates, write_page
from lifecycle.serving.batch import score as score_rows
from lifecycle.settings import Settings
from tests.support.carded import register_carded
from tests.support.recorded import METRIC, recorded_state

BROWSER = Path(f"{sys.prefix}-browser") / "bin" / "python"
PROGRAM = Path(__file__).parents[2] / "support" / "browse.py"

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        not (BROWSER.exists() and shutil.which("chromium")),
        reason="`make servers` installs Chromium and what drives it",
    ),
]


def look(*pages: Path) -> dict[str, Any]:
    """What the browser finds wrong in each page."""
    process = subprocess.run(
        [str(BROWSER), str(PROGRAM), *map(str, pages)], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    found: dict[str, Any] = json.loads(process.stdout)
    return found


def test_people_can_use_the_pages(make_project: Callable[..., Project], tmp_path: Path) -> None:
    project = make_project(gate={"metric": METRIC})
    lost = EnvironmentState(env="qa", problem="MLflow does not answer")
    contents = {
        "empty": [EnvironmentState(env="dev")],
        "first": [recorded_state("dev", versions=1, windows=1)],
        "seasons": [
            recorded_state("prod", versions=12, windows=90, promotes_from="dev", canary=True),
            recorded_state("dev", versions=3, windows=12),
            lost,
        ],
    }
    pages = [
        write_page(site_page(project, states, Sources(tmp_path)), tmp_path / f"{name}.html")
        for name, states in contents.items()
    ]
    for name, found in look(*pages).items():
        assert found["violations"] == [], name
        assert found["errors"] == [], name
        assert found["overflows"] == [], name
        assert found["others"] == [], name
        assert found["tab_stops"] >= 5, name


def test_people_can_use_the_reports(
    make_project: Callable[..., Project], settings: Settings, tmp_path: Path
) -> None:
    """Profile, evaluation, monitoring, summary, and the model card alone and beside another."""
    made, trained = register_carded(make_project, settings)
    project, holdout = made.project, made.split.holdout
    card = read_card(trained.model, settings)
    assert card is not None
    score = trained.evaluation.metrics[project.metric]
    other = card.model_copy(
        update={
            "model": card.model.model_copy(update={"version": 2}),
            "measured": card.measured.model_copy(update={"metrics": {project.metric: score}}),
        }
    )
    evaluated = Evaluated(
        candidate=trained.evaluation,
        baseline=trained.baseline,
        champion=None,
        gain_over_baseline=Gain(**score.model_dump(), least=0.0, confidence=0.975),
        gain_over_champion=None,
    )
    path = made.bundle.path
    reference, window = (
        score_rows(project, settings, part, Window(first=at, last=at), trained.model, path)
        for at, part in enumerate((holdout, made.split.train))
    )
    monitored = monitor_windows(project, settings, reference, [window], trained.evaluation)
    lines = [
        PageSection("Gate for v1: passed", points=("Better.",), code="lifecycle serve"),
        PageSection("Models", table=Table(("model", "rows"), (("v1", "94"), (Cell("v2"), "9")))),
    ]
    contents = {
        "card": card_page(card, "approved", ("2026-11-29 12:00 note by ann: fine",)),
        "cards": difference_page(card, other),
        "evaluation": evaluation_page(project, made.split, made.bundle, evaluated, {}),
        "monitoring": monitored.report.read_text(),
        "summary": page("small: a cycle", lines, lead="It ended well.", verdict=Cell("v1", "good")),
        "profile": profile(read_version(holdout), target="bought")
        .save(tmp_path / "profile.html")
        .read_text(),
    }
    style = templates().get_template("runtime/style.html.j2").render()
    for name, html in contents.items():
        assert style in html, f"{name} has a look of its own"
        assert html.count("<main>") == html.count("</main>") == 1, name
        assert "<title>" in html.partition("</head>")[0], name
    pages = [write_page(html, tmp_path / f"{name}.html") for name, html in contents.items()]
    for name, found in look(*pages).items():
        assert found["violations"] == [], name
        assert found["errors"] == [], name
        assert found["overflows"] == [], name
        assert found["others"] == [], name
