"""Ten questions of a colleague who sees the page first: each answer is on the first card."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from html import unescape
from pathlib import Path

import pytest

from lifecycle.page.cards import card
from lifecycle.page.facts import Fact, open_alarms, spell_seconds
from lifecycle.page.site import site_page
from lifecycle.page.sources import Sources
from lifecycle.page.state import EnvironmentState, FailedTraining
from lifecycle.project import Project
from lifecycle.records import Attempt
from tests.support.recorded import METRIC, recorded_state


@pytest.fixture
def project(make_project: Callable[..., Project]) -> Project:
    return make_project(gate={"metric": METRIC})


def states() -> list[EnvironmentState]:
    """Production with an open alarm, a challenger in its canary, and one that waits in staging."""
    prod = recorded_state("prod", versions=6, windows=30, promotes_from="staging", canary=True)
    *before, newest = prod.windows
    moved = next(window for window in before if window.alarms)
    alarm = moved.alarms[0].model_copy(
        update={"id": "ab12", "severity": "high", "time": "2025-12-01T06:00:00+00:00"}
    )
    alarming = newest.model_copy(update={"version": 5, "alarms": (alarm,)})
    attempt = Attempt(
        id="1",
        time=datetime(2026, 8, 28, 6, tzinfo=UTC),
        by_hand=False,
        triggers=("quality",),
        outcome="finding",
        version=6,
        seconds=95.0,
        reasons=("roc_auc is 0.79, below 0.8.",),
    )
    prod = prod.model_copy(
        update={"windows": (*before, alarming), "attempts": (attempt,), "approval": True}
    )
    staging = recorded_state("staging", versions=8, windows=10, promotes_from="dev")
    return [prod, staging, recorded_state("dev", versions=8, windows=10)]


def facts(project: Project, state: EnvironmentState, *others: EnvironmentState) -> dict[str, Fact]:
    shown = card(project, state, Sources(Path("/nowhere")), (state, *others)).facts
    return {fact.name: fact for fact in shown}


@pytest.fixture
def first_card(project: Project, tmp_path: Path) -> str:
    """The words of the first card, as somebody reads them without opening anything."""
    html = site_page(project, states(), Sources(tmp_path))
    text = html.partition('<section class="card"')[2].partition("</section>")[0]
    text = re.sub(r"<ul>.*?</ul>", "", text, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", text)).split())


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("which model answers in prod?", r"prod canary v6 · champion v5 "),
        ("who released it?", r"released by deployment release"),
        (
            "what is to do?",
            r"look at features: plan, found \d+ days ago, and say what it was: "
            r"lifecycle alarms project.yaml acknowledge ab12 --reason '…' --env prod "
            r"promote v8 of staging, champion there for \d+ days, or leave it; somebody has to "
            r"approve: lifecycle run promote project.yaml --env prod",
        ),
        ("and why?", r"why this one roc_auc 0.812 on the holdout beats the champion's 0.804"),
        ("since when?", r"champion since 2026-06-29 09:00"),
        ("which data?", r"data train version 4, 9,000 rows from accepted version 4, from visits"),
        ("what is its quality?", r"roc auc at release 0\.\d+ \(0\.\d+ to 0\.\d+\)"),
        ("which alarms are open?", r"open alarms 1 features: plan \(window 2025-11-30\)"),
        ("when was the last retraining?", r"last retraining 2026-08-28 06:00 v6 by deployment"),
        ("and why?", r"asked for by quality \(roc_auc is 0.79, below 0.8.\)"),
        ("what did it cost?", r"cost of that training 41 s time of one run"),
        ("which challenger waits?", r"challenger v6 canary since 2026-08-28 08:00"),
        (
            "and for whom?",
            r"waits in staging v8 for a person: lifecycle run promote --env prod, then",
        ),
        ("what failed last?", r"last failure 2026-03-01 09:00 rejected v3: roc_auc fell by 0.011"),
    ],
)
def test_the_answer_is_on_the_first_card(first_card: str, question: str, answer: str) -> None:
    assert re.search(answer, first_card), f"{question} {first_card}"


def test_an_acknowledged_alarm_is_not_open(project: Project) -> None:
    prod = states()[0]
    assert [alarm.id for _, alarm in open_alarms(project, prod)] == ["ab12"]
    assert card(project, prod, Sources(Path("/nowhere"))).verdict.tone == "bad"
    known = prod.model_copy(update={"acknowledged": {"ab12": "ada on 2026-09-01: the meter"}})
    assert open_alarms(project, known) == []
    fact = facts(project, known)["open alarms"]
    assert fact.value == "none"
    assert fact.note.endswith("acknowledged by ada on 2026-09-01: the meter")
    soon = datetime(2025, 12, 2, tzinfo=UTC)
    shown = card(project, known, Sources(Path("/nowhere")), now=soon)
    text = "nothing to do: the alarms of window 2025-11-30 are acknowledged"
    assert (shown.verdict.text, shown.to_do) == (text, ())
    later = card(project, known, Sources(Path("/nowhere")), now=datetime(2025, 12, 9, tzinfo=UTC))
    assert later.verdict.text == "not monitored for 8 days, so nothing is known of it now"
    [duty] = later.to_do
    assert duty.text == "have it monitored, the last time was 8 days ago"
    assert duty.command == "lifecycle doctor --env prod"


def test_retraining_is_to_do_until_somebody_tries(project: Project) -> None:
    prod = states()[0]
    last = prod.monitorings[-1].model_copy(update={"verdict": "retraining is asked for"})
    asking = prod.model_copy(update={"monitorings": (last,), "attempts": (), "versions": ()})
    now = datetime(2025, 12, 2, tzinfo=UTC)
    [duty] = card(project, asking, Sources(Path("/nowhere")), now=now).to_do
    assert duty.text == "retrain, unless a deployment does; asked for 18 h ago"
    assert duty.command == "lifecycle run retrain project.yaml --env prod"
    tried = asking.model_copy(update={"attempts": prod.attempts})
    assert card(project, tried, Sources(Path("/nowhere")), now=now).to_do == ()


def test_a_try_that_brought_no_version_is_the_last_retraining(project: Project) -> None:
    prod = states()[0]
    failed = prod.attempts[0].model_copy(
        update={
            "time": datetime(2026, 9, 3, tzinfo=UTC),
            "outcome": "failed",
            "version": None,
            "reasons": ("roc_auc is 0.78.", "the run failed"),
        }
    )
    shown = facts(project, prod.model_copy(update={"attempts": (*prod.attempts, failed)}))
    assert shown["last retraining"].value == "2026-09-03 00:00"
    assert shown["last retraining"].note == "failed: asked for by quality (roc_auc is 0.78.)"
    assert shown["cost of that training"].value == "95 s"
    assert shown["last failure"].note == "retraining failed: the run failed"


def test_a_training_by_hand_after_the_last_try_is_the_last(project: Project) -> None:
    prod = states()[0]
    earlier = prod.attempts[0].model_copy(update={"version": 4})
    shown = facts(project, prod.model_copy(update={"attempts": (earlier,)}))
    assert (
        shown["last retraining"].note == "v6 by deployment retrain: canary; it came from staging v6"
    )
    dev = states()[2]
    assert facts(project, dev)["last retraining"].note.endswith("monitoring had not asked for it")
    first = dev.model_copy(update={"versions": dev.versions[-1:]})
    assert facts(project, first)["trained"].note.endswith("the first one")


def test_the_newest_failure_counts(project: Project) -> None:
    prod = states()[0]
    failed = FailedTraining(time="2026-10-01T00:00:00Z", reason="no rows", flow_run="7")
    fact = facts(project, prod.model_copy(update={"failed_training": failed}))["last failure"]
    assert (fact.value, fact.note) == ("2026-10-01 00:00", "training failed: no rows")
    assert fact.links == (("Prefect run", "http://127.0.0.1:4200/runs/flow-run/7"),)
    nothing = facts(project, EnvironmentState(env="dev"))["last failure"]
    assert nothing.value == "none recorded"


def test_a_number_of_the_version_before_says_so(project: Project) -> None:
    prod = states()[0]
    former = prod.model_copy(update={"windows": prod.windows[:1]})
    shown = facts(project, former)
    assert {"roc auc measured of v1", "roc auc estimated of v1"} <= shown.keys()


def test_what_waits_in_the_environment_before(project: Project) -> None:
    prod, staging, _ = states()
    assert facts(project, prod, staging)["waits in staging"].value == "v8"
    champion = staging.holder("champion")
    assert champion is not None
    line = prod.changes[-1].model_copy(
        update={"action": "decline", "digest": champion.digest, "who": "grace", "version": 0}
    )
    declined = prod.model_copy(update={"changes": (*prod.changes, line)})
    assert facts(project, declined, staging)["from staging"].note.startswith("declined by grace on")
    alike = [version.model_copy(update={"digest": "7" * 64}) for version in prod.versions]
    same = [version.model_copy(update={"digest": "7" * 64}) for version in staging.versions]
    shown = facts(
        project,
        prod.model_copy(update={"versions": tuple(alike)}),
        staging.model_copy(update={"versions": tuple(same)}),
    )
    assert not {"from staging", "waits in staging"} & shown.keys()


def test_a_model_that_came_from_elsewhere_names_its_origin(project: Project) -> None:
    prod = states()[0]
    champion = prod.holder("champion")
    assert champion is not None
    moved = champion.model_copy(update={"parts": {"holdout": "holdout@4"}})
    fact = facts(project, prod.model_copy(update={"versions": (moved,)}))["data"]
    assert fact.value == "learned in staging v5"


@pytest.mark.parametrize(
    ("seconds", "words"), [(41.2, "41 s"), (480.0, "8 min"), (9000.0, "2.5 h")]
)
def test_durations_are_told_in_one_unit(seconds: float, words: str) -> None:
    assert spell_seconds(seconds) == words
