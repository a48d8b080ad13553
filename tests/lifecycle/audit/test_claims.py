"""Promotions that race for one environment: one gets it, the other is told who came first."""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from lifecycle.audit.model_trail import Trail, approval_of, decisive, history, standing, verify
from lifecycle.errors import OvertakenError
from lifecycle.settings import Settings
from tests.support.versions import model

pytestmark = pytest.mark.unit
PAIRS = 100


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture
def trail(settings: Settings) -> Trail:
    trail = Trail(settings, "small", "anna")
    trail.record("deploy", model(1))
    trail.record("promote", model(1))
    return trail


@pytest.mark.system
def test_of_100_raced_pairs_exactly_one_wins_each(settings: Settings, trail: Trail) -> None:
    bases: list[str] = []
    start = Barrier(2, lambda: bases.append(standing(trail.changes())))
    end = Barrier(2)

    def race(name: str) -> list[str]:
        own, outcomes = Trail(settings, "small", name), []
        pauses = random.Random(name)  # noqa: S311 - nothing secret
        for pair in range(PAIRS):
            start.wait()
            time.sleep(pauses.uniform(0, 0.002))
            try:
                # every third pair is of one version: that somebody else brings it is no success
                digest_of = 2 if pair % 3 == 0 or name == "one" else 3
                own.claim(model(digest_of), (f"pair {pair}",), bases[pair])
                outcomes.append("won")
            except OvertakenError as error:
                outcomes.append(str(error))
            end.wait()
            if outcomes[-1] == "won":
                own.record("reject", model(digest_of), (f"pair {pair}",))
        return outcomes

    with ThreadPoolExecutor(2) as threads:
        one, two = threads.map(race, ("one", "two"))
    for pair, outcomes in enumerate(zip(one, two, strict=True)):
        assert sorted(outcome == "won" for outcome in outcomes) == [False, True], (pair, outcomes)
        loser, winner = ("one", "two") if outcomes[1] == "won" else ("two", "one")
        words = outcomes[0] if loser == "one" else outcomes[1]
        assert words.startswith("import v")
        assert f" by {winner} on 20" in words
    claims = [line for line in history(settings, "small") if line.action == "import"]
    assert [line.reasons for line in claims] == [(f"pair {pair}",) for pair in range(PAIRS)]
    assert verify(settings, "small") is None


def test_whoever_was_cut_short_after_a_claim_has_it_still(settings: Settings, trail: Trail) -> None:
    base = standing(trail.changes())
    claimed = trail.claim(model(2), ("From staging.",), base)
    trail.record("approve", model(3), ("I think so.",))  # another one waits: that is no change
    again = trail.claim(model(2), ("From staging.",), standing(trail.changes()))
    assert again == claimed
    with pytest.raises(OvertakenError, match=r"^import v2 by anna on 20\d\d-\d\d-\d\d .* first$"):
        trail.claim(model(3), ("From staging.",), base)
    trail.claim(model(3), ("From staging.",), standing(trail.changes()))
    # what is not a promotion overtakes as well
    base = standing(trail.changes())
    trail.record("rollback", model(4))
    with pytest.raises(OvertakenError, match="rollback v4"):
        trail.claim(model(3), ("From staging.",), base)


def test_notes_end_no_canary_and_the_claim_does_not_either(trail: Trail) -> None:
    before = len(decisive(trail.changes()))
    for action in ("export", "import", "approve", "decline", "not released"):
        trail.record(action, model(2), ("a note",))  # type: ignore[arg-type]
    assert len(decisive(trail.changes())) == before


def test_an_approval_holds_until_it_is_used_or_taken_back(trail: Trail) -> None:
    digest = model(2).digest
    assert approval_of(trail.changes(), digest) is None
    approved = trail.record("approve", model(2), ("It is better.",))
    assert approval_of(trail.changes(), digest) == approved
    assert approval_of(trail.changes(), model(3).digest) is None
    trail.claim(model(2), ("From staging.",), standing(trail.changes()))
    assert approval_of(trail.changes(), digest) == approved, "its own claim is no change"
    trail.record("promote", model(2))
    assert approval_of(trail.changes(), digest) is None
    trail.record("approve", model(3), ("Why not.",))
    trail.record("decline", model(3), ("Nobody wants it.",))
    assert approval_of(trail.changes(), model(3).digest) is None
