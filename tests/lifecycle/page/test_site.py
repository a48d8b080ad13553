"""The page from what environments have recorded: what it says first, its links, its size."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lifecycle.page.cards import card
from lifecycle.page.events import events
from lifecycle.page.site import INDEX, in_order, site_page, write_site
from lifecycle.page.sources import Sources
from lifecycle.page.state import EnvironmentState, Monitoring
from lifecycle.project import Project
from lifecycle.records import Attempt, Change
from tests.support.recorded import METRIC, recorded_state

MAX_BYTES = 2_000_000


@pytest.fixture
def project(make_project: Callable[..., Project]) -> Project:
    return make_project(gate={"metric": METRIC})


def states(versions: int = 6, windows: int = 30) -> list[EnvironmentState]:
    return [
        recorded_state("dev", versions=versions, windows=windows),
        recorded_state("staging", versions=versions, windows=windows, promotes_from="dev"),
        recorded_state(
            "prod", versions=versions, windows=windows, promotes_from="staging", canary=True
        ),
    ]


def facts(project: Project, state: EnvironmentState, folder: Path) -> dict[str, str]:
    shown = card(project, state, Sources(folder)).facts
    return {fact.name: f"{fact.value} {fact.note}" for fact in shown}


def test_the_environment_that_promotions_end_in_comes_first() -> None:
    assert [state.env for state in in_order(states())] == ["prod", "staging", "dev"]


def test_promotions_in_a_circle_have_an_order() -> None:
    circle = [recorded_state("a", promotes_from="b"), recorded_state("b", promotes_from="a")]
    assert {state.env for state in in_order(circle)} == {"a", "b"}


def test_every_number_of_the_champion_is_that_of_the_store(
    project: Project, tmp_path: Path
) -> None:
    state = states()[2]
    shown = facts(project, state, tmp_path)
    champion = state.holder("champion")
    newest = state.windows[-1]
    measured = next(w for w in reversed(state.windows) if w.measured).measured[0]
    assert champion is not None
    released = champion.metrics[METRIC]
    assert newest.estimated is not None
    for name, value in (
        ("at release", released),
        ("measured", measured),
        ("estimated", newest.estimated),
    ):
        assert shown[f"roc auc {name}"].startswith(
            f"{value.value:.3g} ({value.low:.3g} to {value.high:.3g})"
        )
    assert shown["challenger"] == (
        "v6 canary since 2026-08-28 08:00: To 10 % of the entities. It waits for the gate."
    )
    assert "released by deployment release" in shown["champion since"]
    assert shown["open alarms"].startswith(
        f"none {sum(bool(w.alarms) for w in state.windows)} of 30 windows had one"
    )


@pytest.mark.parametrize(
    ("change", "tone", "text"),
    [
        ({}, "good", "nothing to do: nothing drifted in window 2025-11-30"),
        ({"windows": ()}, "plain", "released, and not monitored yet"),
        ({"versions": ()}, "warn", "no champion: nothing is released here yet"),
    ],
)
def test_verdicts(
    project: Project, tmp_path: Path, change: dict[str, object], tone: str, text: str
) -> None:
    state = states()[0].model_copy(update=change)
    verdict = card(project, state, Sources(tmp_path)).verdict
    assert (verdict.tone, verdict.text) == (tone, text)


def test_a_champion_after_the_newest_window_is_not_judged_by_it(
    project: Project, tmp_path: Path
) -> None:
    state = states()[0]
    windows = tuple(window.model_copy(update={"version": 2}) for window in state.windows)
    verdict = card(project, state.model_copy(update={"windows": windows}), Sources(tmp_path))
    assert verdict.verdict.text == "not monitored yet; window 2025-11-30 was v2's"


def test_retraining_that_is_asked_for_is_said(project: Project, tmp_path: Path) -> None:
    state = states()[0]
    asked = state.monitorings[-1].model_copy(update={"verdict": "retraining asked for"})
    state = state.model_copy(update={"monitorings": (asked,)})
    verdict = card(project, state, Sources(tmp_path)).verdict
    assert (verdict.tone, verdict.text) == (
        "bad",
        "retraining is asked for since window 2025-11-30",
    )


def test_who_came_back_after_a_rollback_is_said(project: Project, tmp_path: Path) -> None:
    state = states()[0]
    back = state.changes[-1].model_copy(
        update={
            "action": "rollback",
            "version": 5,
            "who": "grace",
            "time": "2026-11-01T00:00:00+00:00",
        }
    )
    state = state.model_copy(update={"changes": (*state.changes, back)})
    assert facts(project, state, tmp_path)["champion since"] == (
        "2026-11-01 00:00 gone back to by grace"
    )


def test_links_lead_to_the_servers_and_to_places_of_the_page(
    project: Project, tmp_path: Path
) -> None:
    state = states()[0].model_copy(
        update={"mlflow": "https://mlflow.dev.example", "prefect": "https://prefect.dev.example"}
    )
    html = site_page(project, [state], Sources(tmp_path))
    assert 'href="https://mlflow.dev.example/#/experiments/1/runs/' in html
    assert 'href="https://prefect.dev.example/runs/flow-run/00000000-' in html
    ids = set(re.findall(r'id="([^"]+)"', html))
    assert {link for link in re.findall(r'href="#([^"]+)"', html)} <= ids


def test_pages_become_part_of_the_folder(project: Project, tmp_path: Path) -> None:
    reports, folder = tmp_path / "reports", tmp_path / "site"
    evaluation = reports / "abc" / "evaluation.html"
    evaluation.parent.mkdir(parents=True)
    evaluation.write_text("<p>evaluation</p>")
    state = states()[0]
    champion = state.versions[1].model_copy(update={"pages": {"evaluation": str(evaluation)}})
    state = state.model_copy(update={"versions": (champion,), "reports": str(reports)})
    page = write_site(project, [state], Sources(folder))
    assert page == folder / INDEX
    assert 'href="sources/dev/abc/evaluation.html"' in page.read_text()
    assert (folder / "sources/dev/abc/evaluation.html").read_text() == "<p>evaluation</p>"
    evaluation.write_text("<p>another</p>")
    write_site(project, [state], Sources(folder))
    assert (folder / "sources/dev/abc/evaluation.html").read_text() == "<p>another</p>"
    write_site(project, [state], Sources(reports))  # it lies beside it already
    assert 'href="abc/evaluation.html"' in (reports / INDEX).read_text()
    assert not (reports / "sources").exists()


def test_pages_of_versions_without_a_role_are_not_copied(project: Project, tmp_path: Path) -> None:
    report = tmp_path / "reports" / "evaluation.html"
    report.parent.mkdir()
    report.write_text("<p>evaluation</p>")
    state = recorded_state("dev", versions=12)
    pages = {"evaluation": str(report)}
    versions = tuple(version.model_copy(update={"pages": pages}) for version in state.versions)
    state = state.model_copy(update={"versions": versions, "reports": str(report.parent)})
    copied = site_page(project, [state], Sources(tmp_path / "site"))
    linked = site_page(project, [state], Sources(report.parent))
    assert copied.count(">evaluation</a>") == 1 + 1  # the champion's, and on its card
    assert linked.count(">evaluation</a>") == 12 + 1


@pytest.mark.parametrize(
    ("served", "told"),
    [
        ({}, "Links to MLflow and Prefect of dev open on the machine"),
        ({"mlflow": "https://mlflow.example"}, "Links to Prefect of dev open on the machine"),
        ({"prefect": "https://prefect.example"}, "Links to MLflow of dev open on the machine"),
        ({"mlflow": "https://mlflow.example", "prefect": "https://prefect.example"}, ""),
    ],
)
def test_links_that_wait_for_the_ui_are_told(
    project: Project, tmp_path: Path, served: dict[str, str], told: str
) -> None:
    files = {"mlflow": "", "prefect": ""}
    dev = states()[0].model_copy(update=files | served)
    html = site_page(project, [dev], Sources(tmp_path, ("", "http://127.0.0.1:4201")))
    assert told in html
    assert ("of dev open on" in html) == bool(told)
    for store, address in (
        ("mlflow", "http://127.0.0.1:5000"),
        ("prefect", "http://127.0.0.1:4201"),
    ):
        assert f'href="{served.get(store, address)}/' in html


def test_what_users_named_is_text(project: Project, tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    state = states()[0]
    changes = [
        Change.model_validate(change.model_dump() | {"who": hostile, "reasons": (hostile,)})
        for change in state.changes
    ]
    windows = [
        window.model_copy(
            update={
                "window": hostile,
                "distances": tuple(
                    d.model_copy(update={"column": hostile}) for d in window.distances
                ),
            }
        )
        for window in state.windows
    ]
    monitoring = Monitoring(
        window=hostile,
        time="2026-01-01T00:00:00+00:00",
        verdict=hostile,
        drifted=hostile,
        page="x",
    )
    state = state.model_copy(
        update={
            "changes": tuple(changes),
            "windows": tuple(windows),
            "monitorings": (monitoring,),
        }
    )
    html = site_page(project, [state], Sources(tmp_path))
    assert hostile not in html
    assert html.count("<script>") == 1


def test_it_needs_no_network_and_no_second_file(project: Project, tmp_path: Path) -> None:
    html = site_page(project, states(), Sources(tmp_path))
    assert not re.findall(r'(?:src|data)="(?!data:)', html)
    assert "@import" not in html
    assert "url(" not in html


def test_a_year_of_three_environments_is_small(project: Project, tmp_path: Path) -> None:
    html = site_page(project, states(100, 365), Sources(tmp_path))
    assert len(html.encode()) < MAX_BYTES


def test_an_environment_that_cannot_be_read_is_named(project: Project, tmp_path: Path) -> None:
    lost = EnvironmentState(env="prod", problem="MLflow at http://m:5000 does not answer")
    html = site_page(project, [states()[0], lost], Sources(tmp_path))
    assert "Not on this page: prod" in html
    assert "MLflow at http://m:5000 does not answer" in html


def test_nothing_at_all(project: Project, tmp_path: Path) -> None:
    html = site_page(project, [EnvironmentState(env="dev")], Sources(tmp_path))
    assert "no champion: nothing is released here yet" in html
    assert "There is no champion yet." in html


def test_a_try_of_the_machine_is_an_event() -> None:
    made = datetime(2026, 11, 1, tzinfo=UTC)
    attempt = Attempt(
        id="r", time=made, by_hand=False, triggers=("quality",), outcome="rolled back", version=2
    )
    newest = events([states()[0].model_copy(update={"attempts": (attempt,)})])[0]
    assert (newest.text, newest.reason, newest.tone) == (
        "retraining by itself: rolled back, v2",
        "asked for by quality",
        "bad",
    )


def test_events_are_in_one_order() -> None:
    times = [event.time for event in events(states())]
    assert times == sorted(times, reverse=True)
