"""A false claim of a model card blocks the release, and is named."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from typer import Exit

from lifecycle.audit.card_trail import card_chain
from lifecycle.cli import card as commands
from lifecycle.errors import GateError, ProjectError, RegistryError
from lifecycle.records import Trained
from lifecycle.release import card_verification, cards
from lifecycle.release.card_verification import verify_card
from lifecycle.release.cards import (
    CARD,
    STATUS,
    add_note,
    card_lines,
    read_card,
    status_and_history,
    update_statuses,
)
from lifecycle.release.mlflow_store import connect
from lifecycle.release.offer import OfferRequest, find_offer
from lifecycle.release.registry import CHAMPION, set_alias
from lifecycle.settings import Settings
from tasks import promotion, release
from tests.support.carded import register_carded
from tests.support.small import write_project
from tests.support.trained import Made

pytestmark = pytest.mark.component
Content = dict[str, Any]


class Carded(NamedTuple):
    made: Made
    trained: Trained
    content: Content
    """The card as JSON."""


@pytest.fixture(scope="module")
def carded(tmp_path_factory: pytest.TempPathFactory) -> Carded:
    folder = tmp_path_factory.mktemp("carded")
    settings = Settings(home=folder / "lifecycle")
    made, trained = register_carded(lambda **changes: write_project(folder, **changes), settings)
    card = read_card(trained.model, settings)
    assert card is not None
    return Carded(made, trained, card.model_dump(mode="json"))


def value_at(*path: str, value: Any) -> Callable[[Content], str]:
    """Inject a value; returns the claim's name."""

    def inject(content: Content) -> str:
        place = content
        for key in path[:-1]:
            place = place[key]
        former = place[path[-1]]
        place[path[-1]] = value(former) if callable(value) else value
        assert place[path[-1]] != former
        return ".".join(path)

    return inject


def dropped(*path: str) -> Callable[[Content], str]:
    """Take a claim away; returns its name."""

    def inject(content: Content) -> str:
        place = content
        for key in path[:-1]:
            place = place[key]
        name = path[-1] or next(iter(place))
        if isinstance(place[name], list):
            place[name] = []
        else:
            del place[name]
        return ".".join((*path[:-1], name))

    return inject


def first_of(group: str, field: str, value: Any, *within: str) -> Callable[[Content], str]:
    """Change a field of the first slice or gap that has it."""

    def inject(content: Content) -> str:
        entries = content["measured"][group]
        key = next(
            name
            for name, entry in entries.items()
            if all(entry.get(inner) is not None for inner in within)
        )
        return value_at("measured", group, key, *within, field, value=value)(content)

    return inject


def passed_after_all(content: Content) -> str:
    content["measured"]["passed_checks"] += list(content["measured"]["failed_checks"])
    content["measured"]["failed_checks"] = {}
    return "measured.failed_checks.Label Drift"


def invented_metric(content: Content) -> str:
    content["measured"]["metrics"]["fame"] = {"value": 1.0, "low": 1.0, "high": 1.0}
    return "measured.metrics.fame.value"


M = "measured"
HIGHER, LOWER = (lambda value: value + 0.05), (lambda value: value - 0.05)
OTHER_DIGEST = "f" * 64
FALSE_MEASURES = {
    "metric": value_at(M, "metrics", "roc_auc", "value", value=HIGHER),
    "metric, a little": value_at(M, "metrics", "roc_auc", "value", value=lambda v: v + 1e-9),
    "low end": value_at(M, "metrics", "roc_auc", "low", value=HIGHER),
    "high end": value_at(M, "metrics", "roc_auc", "high", value=LOWER),
    "other metric": value_at(M, "metrics", "brier", "value", value=0.01),
    "metric left out": dropped(M, "metrics", "brier"),
    "metric invented": invented_metric,
    "baseline": value_at(M, "baseline_metrics", "roc_auc", "value", value=LOWER),
    "baseline's name": value_at(M, "baseline", value="the best there is"),
    "holdout rows": value_at(M, "holdout_rows", value=9999),
    "train rows": value_at(M, "parts", "train", "rows", value=10**6),
    "train digest": value_at(M, "parts", "train", "digest", value=OTHER_DIGEST),
    "holdout version": value_at(M, "parts", "holdout", "version", value=99),
    "validation table": value_at(M, "parts", "validation", "table", value="holdout"),
    "withheld rows": value_at(M, "withheld", value=77),
    "split rule": value_at(M, "rule", value="By nothing."),
    "rounds": value_at(M, "rounds", value=5000),
    "bundle": value_at(M, "digest", value=OTHER_DIGEST),
    "data identity": value_at(M, "identity", "data", value=OTHER_DIGEST),
    "seed": value_at(M, "identity", "seed", value=9),
    "contract": value_at(M, "contract", value="2.0.0"),
    "origin": value_at(M, "origin", value="prod v9"),
    "calibration": value_at(M, "calibration_error", value=0.0),
    "noise": value_at(M, "noise", "values", "2", value=0.5),
    "slice": first_of("slices", "value", HIGHER, "estimate"),
    "slice rows": first_of("slices", "rows", 10**6),
    "slice left out": dropped(M, "slices", ""),
    "gap": first_of("gaps", "value", 0.0),
    "gap's interval": first_of("gaps", "high", 0.001),
    "gap left out": dropped(M, "gaps", ""),
    "failed check": passed_after_all,
    "check not run": dropped(M, "checks_not_run", "Boosting Overfit"),
    "checked rows": value_at(M, "checked_rows", value=10**6),
    "verdict": value_at(M, "decision", "passed", value=True),
    "gate's reasons": value_at(M, "decision", "reasons", value=["All is well."]),
    "warnings": dropped(M, "warnings"),
    "version": value_at("model", "version", value=2),
}
D = "declared"
FALSE_DECLARATIONS = {
    "purpose": value_at(D, "purpose", value="Anything."),
    "owner": value_at(D, "owner", value="nobody"),
    "licence": value_at(D, "licence", value="Public domain"),
    "floor": value_at(D, "floor", value=0.99),
    "fairness limit": value_at(
        D, "fairness_limits", "city", "demographic_parity_difference", value=0.01
    ),
    "protected attributes": dropped(D, "protected"),
    "limits": dropped(D, "limits"),
    "inputs": value_at(D, "inputs", value=["age"]),
}


def release_with(carded: Carded, text: str, monkeypatch: pytest.MonkeyPatch, resealed: bool) -> Any:
    """The duel of a release whose card is `text`.

    Args:
        resealed: whether the audit trail of cards agrees with it.
    """
    load, lines = cards.load_document, card_lines(carded.made.settings, carded.trained.model)
    monkeypatch.setattr(
        cards, "load_document", lambda m, name, s: text if name == CARD else load(m, name, s)
    )
    if resealed:
        sealed = [line.model_copy(update={"card": cards.text_digest(text)}) for line in lines]
        monkeypatch.setattr(cards, "card_lines", lambda *_: sealed)
    return release._verified(carded.made.project, carded.made.settings, carded.trained, None)


@pytest.mark.parametrize("name", [*FALSE_MEASURES, *FALSE_DECLARATIONS])
def test_each_false_claim_blocks_and_is_named(
    carded: Carded, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = json.loads(json.dumps(carded.content))
    claim = (FALSE_MEASURES | FALSE_DECLARATIONS)[name](content)
    text = json.dumps(content)
    duel = release_with(carded, text, monkeypatch, resealed=name != "licence")
    assert not duel.decision.passed
    assert duel.decision.gate == "model card"
    assert any(f"the card claims {claim}" in reason for reason in duel.decision.reasons)


def test_thirty_kinds_of_false_claims_are_tried() -> None:
    assert len(FALSE_MEASURES) + len(FALSE_DECLARATIONS) >= 30


def test_a_true_card_goes_on_to_the_gate(carded: Carded) -> None:
    made, trained = carded.made, carded.trained
    assert verify_card(trained.model, made.settings, made.project) == []
    duel = release._verified(made.project, made.settings, trained, None)
    assert duel.decision.gate == "promotion"
    assert duel.challenger_evaluation.gaps, "fairness is measured again"


def test_a_card_that_cannot_be_read_or_is_gone_blocks(
    carded: Carded, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        assert release_with(carded, "{", patch, resealed=False).decision.gate == "model card"
    load = cards.load_document
    monkeypatch.setattr(
        cards, "load_document", lambda m, n, s: None if n == CARD else load(m, n, s)
    )
    model, settings = carded.trained.model, carded.made.settings
    [claim] = verify_card(model, settings)
    assert str(claim).startswith("the card claims card.json = 'nothing'; the audit trail")
    monkeypatch.setattr(cards, "card_lines", lambda *_: [])
    assert verify_card(model, settings) == [], "a version of before there were cards"


def test_a_false_number_in_the_documents_is_found(
    carded: Carded, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = cards.load_document

    def falsified(model: Any, name: str, settings: Any) -> str | None:
        text = load(model, name, settings)
        return text.replace("0.", "0.9") if text and name.endswith(".md") else text

    monkeypatch.setattr(cards, "load_document", falsified)
    [claim] = verify_card(carded.trained.model, carded.made.settings)
    assert claim.claim == "model_card.md"


def test_a_record_that_was_falsified_is_found(
    carded: Carded, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = card_verification.logged_record(carded.trained.model, carded.made.settings)
    better = record.evaluation.model_copy(
        update={
            "metrics": {
                name: estimate.model_copy(update={"value": 0.99})
                for name, estimate in record.evaluation.metrics.items()
            }
        }
    )
    falsified = record.model_copy(update={"evaluation": better})
    monkeypatch.setattr(card_verification, "logged_record", lambda *_: falsified)
    found = verify_card(carded.trained.model, carded.made.settings)
    assert {claim.claim for claim in found} >= {"measured.metrics.roc_auc.value"}
    assert "and not the record of the training, has" in str(found[0])


def test_promotion_between_environments_refuses(
    carded: Carded, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    made, trained = carded.made, carded.trained
    content = json.loads(json.dumps(carded.content))
    FALSE_MEASURES["metric"](content)
    load = cards.load_document
    text = json.dumps(content)
    monkeypatch.setattr(
        cards, "load_document", lambda m, n, s: text if n == CARD else load(m, n, s)
    )
    proposal: Any = SimpleNamespace(champion=None)
    judgement: Any = SimpleNamespace()
    with pytest.raises(GateError, match=r"not released: False claim: .*metrics\.roc_auc\.value"):
        promotion.duel_of(made.project, made.settings, proposal, judgement)
    set_alias(trained.model, CHAMPION, made.settings)
    try:
        with pytest.raises(GateError, match="not offered: False claim"):
            find_offer(OfferRequest(project_name="small"), made.settings, tmp_path)
    finally:
        connect(made.settings).delete_registered_model_alias("small", CHAMPION)


def test_status_and_notes_are_on_the_card_and_in_the_trail(carded: Carded) -> None:
    made, model = carded.made, carded.trained.model
    settings, client = made.settings, connect(made.settings)
    tags = lambda: client.get_model_version("small", "1").tags  # noqa: E731
    assert tags()[STATUS] == "draft"
    with pytest.raises(RegistryError, match="needs words"):
        add_note(model, "  ", settings)
    add_note(model, "Asked by\nthe board.", settings)
    set_alias(model, CHAMPION, settings)
    [line] = update_statuses("small", settings)
    assert (line.action, line.version) == ("approved", 1)
    assert update_statuses("small", settings) == [], "again is the same as once"
    client.set_model_version_tag("small", "1", STATUS, "draft")  # killed before the tag
    update_statuses("small", settings)
    assert tags()[STATUS] == "approved"
    lines = card_chain(settings, "small").lines()
    assert [line.action for line in lines] == ["draft", "note", "approved"]
    add_note(model, "Again.", settings)
    add_note(model, "Again.", settings)
    assert len(card_chain(settings, "small").lines()) == 4, "said twice in a row it is said once"
    assert update_statuses("small", settings) == []
    assert card_chain(settings, "small").broken() is None
    status, history = status_and_history(model, settings)
    assert status == "approved"
    assert any("note by" in words and "Asked by the board." in words for words in history)
    text = cards.load_document(model, "model_card.md", settings)
    assert text is not None
    assert "**Status: approved.**" in text
    assert "Asked by the board." in text
    page = settings.folder("reports", "small") / model.digest[:12] / "model_card.html"
    assert "Status: approved" in page.read_text()
    assert verify_card(model, settings, made.project) == []


def test_registered_again_with_other_claims_it_keeps_its_status(carded: Carded) -> None:
    made, trained = carded.made, carded.trained
    model = trained.model
    former = card_lines(made.settings, model)
    again = trained.model_copy(update={"noise": None})
    client = connect(made.settings)
    client.log_text(model.run_id, again.model_dump_json(), "lifecycle/trained.json")
    cards.write_card(made.project, again, made.settings)
    lines = card_lines(made.settings, model)
    assert [line.reasons for line in lines[len(former) :]] == [
        ("Registered again, with other claims.",)
    ]
    assert verify_card(model, made.settings, made.project) == []
    client.log_text(model.run_id, trained.model_dump_json(), "lifecycle/trained.json")
    cards.write_card(made.project, trained, made.settings)
    assert verify_card(model, made.settings, made.project) == []


def test_the_commands(
    carded: Carded,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("LIFECYCLE_HOME", str(carded.made.settings.home))
    settings = carded.made.settings
    file, page = str(carded.made.project.file), tmp_path / "card.html"
    commands.note([file, "1", "Looked at by the board."])
    commands.card([file, "1"], output=page)
    shown = capsys.readouterr().out
    assert "# Model card: small v1" in shown
    assert "Looked at by the board." in shown
    assert "Every claim is what the store has." in shown
    assert "Looked at by the board." in page.read_text()
    commands.card([file, "1"], as_json=True, output=page)
    assert json.loads(capsys.readouterr().out) == carded.content
    commands.card([file, "1", "1"], output=page)
    assert "Claims that differ" in page.read_text()
    content = json.loads(json.dumps(carded.content))
    claim = FALSE_MEASURES["metric"](content)
    load = cards.load_document
    monkeypatch.setattr(
        cards, "load_document", lambda m, n, s: json.dumps(content) if n == CARD else load(m, n, s)
    )
    with pytest.raises(Exit) as ended:
        commands.card([file, "1"], output=page)
    assert ended.value.exit_code == commands.FALSE
    assert f"the card claims {claim} = " in capsys.readouterr().err
    purpose = FALSE_DECLARATIONS["purpose"](content)
    commands.note([file, "1", "A note does not make a falsified card the registered one."])
    problems = verify_card(carded.trained.model, settings, carded.made.project)
    assert {claim, purpose} <= {problem.claim for problem in problems}
    with pytest.raises(ProjectError, match="name one or two versions"):
        commands.card([file])
    with pytest.raises(RegistryError, match="no version or run '7'"):
        commands.note([file, "7", "x"])
