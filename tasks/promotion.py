"""Promotion between environments as Prefect tasks: offer, judgement, approval, claim."""

from prefect.context import FlowRunContext
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.settings import PREFECT_API_URL
from pydantic import Field

from lifecycle.audit.model_trail import (
    CROWNING,
    Trail,
    approval_of,
    champions,
    rolled_back,
    standing,
)
from lifecycle.errors import GateError, OvertakenError, SettingsError
from lifecycle.project import Project
from lifecycle.quality.program import ChecksProgram
from lifecycle.records import (
    Action,
    Approval,
    Decision,
    Duel,
    Judgement,
    ModelVersion,
    Offer,
    Promotion,
    Record,
    Release,
    Split,
    Trained,
)
from lifecycle.release import artifacts, card_verification, cards, promotion, registry
from lifecycle.release.offer import ANSWER_S
from lifecycle.serving.proxy import STARTUP_S
from lifecycle.serving.smoke import PATIENCE_S
from lifecycle.settings import Settings
from tasks.evaluation import evaluate_candidate
from tasks.events import Details, Event, send_event
from tasks.exclusive import own_server
from tasks.policies import NOT_CACHED, RETRIES, task
from tasks.progress import say, step
from tasks.quality import check_candidate, gate_candidate
from tasks.release import champion_of
from tasks.runs import trail_of, who

STAGE = "promote"
POLL_S = 5
"""Seconds between two looks for an approval."""
RETURN = "It was champion here before and was named: it is not compared with the present one."


class Proposal(Record):
    """An offer, and how this environment stood when it was looked at."""

    offer: Offer
    base: str
    """`model_trail.standing`."""
    champion: ModelVersion | None
    """The version that the offer is compared with."""
    refusal: str = ""
    """Why it is not even judged; empty if it is."""
    returns: bool = False
    """Whether it was champion here before, and a person named it."""
    is_champion: bool = False
    is_settled: bool = False
    """Whether its promotion is complete here."""


class ApprovalForm(RunInput):
    """The question Prefect shows while a promotion waits."""

    approved: bool = Field(description="Shall this version be promoted?")
    who: str = Field(min_length=1, pattern=r"\S", description="Your name")
    reason: str = Field(min_length=1, pattern=r"\S", description="Your reason")


# Before anything is read: the plan, and whether an approval can be had.


def say_plan(project: Project, settings: Settings, origin: str, is_approved: bool) -> None:
    """Tell how long a promotion, and the way back, wait at worst.

    Args:
        is_approved: whether whoever started it has brought the approval.
    """
    steps = longest_steps(project, settings, is_approved)
    total = spoken_time(sum(seconds for _, seconds in steps))
    parts = ", ".join(f"{name} {spoken_time(seconds)}" for name, seconds in steps)
    back = spoken_time(STARTUP_S + PATIENCE_S)
    say(
        STAGE,
        f"{project.name}, {origin} → {settings.env}: waits {total} at most ({parts}); "
        f"`release --rollback` waits {back} at most. Reading the data, predicting and loading the "
        "model come on top: they have no limit",
    )


def longest_steps(
    project: Project, settings: Settings, is_approved: bool = False
) -> list[tuple[str, float]]:
    """The steps of a promotion that wait for something, and their limits in seconds."""
    rollout = project.serving.rollout
    steps: list[tuple[str, float]] = [("the other environment", 2 * ANSWER_S)]
    if project.checks.suites:
        steps.append(("checks", settings.checks_timeout_s))
    if settings.approval == "required" and not is_approved:
        steps.append(("approval", settings.approval_hours * 3600))
    if rollout.policy != "straight":
        count = len(rollout.steps) if rollout.policy == "canary" else 1
        step_s = max(rollout.bake_seconds, rollout.max_wait_seconds)
        steps.append((rollout.policy, count * step_s))
    return [*steps, ("endpoint", STARTUP_S), ("smoke test", PATIENCE_S)]


def spoken_time(seconds: float) -> str:
    """`90 s`, `15 min`, `4.5 h`."""
    if seconds < 2 * 60:
        return f"{seconds:g} s"
    return f"{seconds / 60:.3g} min" if seconds < 2 * 3600 else f"{seconds / 3600:.3g} h"


def require_origin(settings: Settings, origin: str | None) -> str:
    """The environment to promote from.

    Raises:
        SettingsError: nobody names one, or it is this one.
    """
    name = origin or settings.promotes_from
    if not name:
        raise SettingsError(
            f"--from: name the environment to promote from, or set LIFECYCLE_PROMOTES_FROM in "
            f"deployments/{settings.env}.env"
        )
    if name == settings.env:
        raise SettingsError(
            f"--from: {name} is the environment to promote to, too; name another one, or another "
            "with --to"
        )
    return name


def require_approver(settings: Settings, approved_by: str, because: str) -> None:
    """See that an approval can be had where one is required.

    Raises:
        SettingsError: nobody could give one, or half of one is given.
    """
    if bool(approved_by.strip()) != bool(because.strip()):
        raise SettingsError("--approved-by NAME and --because TEXT belong together")
    if approved_by and _is_scheduled():
        raise SettingsError(
            "approved_by: nobody approves a run that a schedule or a trigger starts"
        )
    if settings.approval == "required" and not approved_by and not _can_ask():
        raise SettingsError(
            f"{settings.env} requires an approval (LIFECYCLE_APPROVAL), and no Prefect server that "
            "others see is there to ask for it: run again with --approved-by NAME --because TEXT, "
            "or set PREFECT_API_URL"
        )


def _is_scheduled() -> bool:
    """Return whether a schedule or an automation started this run, and no person or pipeline."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None:
        return False
    return bool(run.auto_scheduled or (run.created_by and run.created_by.type == "AUTOMATION"))


def _can_ask() -> bool:
    """Return whether a Prefect server is there that others see."""
    return bool(PREFECT_API_URL.value()) and not own_server.get()


# The offer, and what this environment finds of it.


@task(name="take-offer", **NOT_CACHED, **RETRIES)
def propose(project: Project, settings: Settings, origin: str, version: int | None) -> Proposal:
    """Take what the other environment offers, and look how this one stands."""
    changes = trail_of(project, settings).changes()
    base = standing(changes)
    with step(STAGE, f"asking {origin} for its {f'v{version}' if version else 'champion'}") as tell:
        offer = promotion.take_offer(project, settings, origin, version)
        tell(f"{offer}: its bundle is here, digests are equal on both sides")
    champion, digest = champion_of(project, settings), offer.model.digest
    is_champion = champion is not None and champion.digest == digest
    challenger = registry.by_alias(project.name, registry.CHALLENGER, settings)
    refusal = ""
    if version is None and (change := rolled_back(changes, digest)):
        refusal = (
            f"It was rolled back here on {change.time[:10]} by {change.who}: "
            f"{' '.join(change.reasons)} To bring it back, name it: --version {offer.model.version}"
        )
    return Proposal(
        offer=offer,
        base=base,
        champion=champion,
        refusal=refusal,
        returns=version is not None
        and any(change.action in CROWNING and change.digest == digest for change in changes),
        is_champion=is_champion,
        is_settled=champion is not None
        and is_champion
        and champions(changes)[-1:] == [champion.version]
        and challenger != champion,
    )


def judge(
    project: Project, settings: Settings, proposal: Proposal, split: Split, program: ChecksProgram
) -> Judgement:
    """Evaluate, check and gate an offer on this environment's holdout, as training does."""
    bundle = promotion.bundle_of(proposal.offer, settings)
    with step(STAGE, f"comparing the holdout with what {proposal.offer} learned from"):
        overlap = promotion.overlap_warning(project, proposal.offer, split.holdout)
    bundle = bundle.model_copy(update={"warnings": (*bundle.warnings, *overlap)})
    project = promotion.as_offered(project, settings, proposal.offer)
    champion = None if proposal.returns else proposal.champion
    evaluated = evaluate_candidate(project, settings, split, bundle, champion, STAGE)
    checks = check_candidate(project, settings, split, bundle, program)
    decision = gate_candidate(
        project,
        evaluated,
        checks,
        proposal.offer.trained.noise,
        STAGE,
        *((RETURN,) if proposal.returns else ()),
    )
    return Judgement(split=split, evaluated=evaluated, checks=checks, decision=decision)


# The approval.


def ask_approval(
    project: Project,
    settings: Settings,
    proposal: Proposal,
    option: Approval | None,
) -> Approval | Decision | None:
    """The approval of a promotion; None where none is asked for, a decision where it was denied.

    One that was given before the promotion was cut short holds.

    Args:
        option: the one that whoever started the flow has brought.
    """
    if settings.approval != "required":
        return None
    trail = trail_of(project, settings)
    if change := approval_of(trail.changes(), proposal.offer.model.digest):
        say(STAGE, f"approved by {change.who} on {change.time[:10]}, before a run was cut short")
        return Approval(who=change.who, reason=change.reasons[0])
    way = "Brought to"  # and so given before the judgement, of whichever version is offered
    if option is None:
        answer = _wait(project, settings, proposal.offer)
        if isinstance(answer, Decision):
            return answer
        option, way = answer, "Answered in"
    reasons = option.reason, f"{way} {who()}."
    _record(project, settings, proposal.offer, "approve", option.who, *reasons)
    say(STAGE, f"approved by {option.who}: {option.reason}")
    return option


def _wait(project: Project, settings: Settings, offer: Offer) -> Approval | Decision:
    """Pause until somebody has answered in Prefect, or the time is up."""
    limit = spoken_time(settings.approval_hours * 3600)
    say(STAGE, f"{offer} waits {limit} for an approval: Resume this run in Prefect")
    try:
        form = pause_flow_run(
            wait_for_input=ApprovalForm,
            timeout=max(1, int(settings.approval_hours * 3600)),
            poll_interval=POLL_S,
        )
    except FlowPauseTimeout:
        return _denied(f"Nobody answered within {limit}, which means no.")
    if not form.approved:
        return _denied(f"{form.who.strip()} said no: {form.reason.strip()}")
    return Approval(who=form.who.strip(), reason=form.reason.strip())


def _denied(reason: str) -> Decision:
    return Decision(gate="approval", passed=False, reasons=(reason,), blocking=(reason,))


# What is written down, on both sides.


def _record(
    project: Project, settings: Settings, offer: Offer, action: Action, name: str, *reasons: str
) -> None:
    model = promotion.as_unregistered(project, settings, offer)
    Trail(settings, project.name, name).record(action, model, reasons)


@task(name="decline", **NOT_CACHED, **RETRIES)
def decline(
    project: Project,
    settings: Settings,
    proposal: Proposal,
    decision: Decision,
    approval: Approval | None = None,
) -> Promotion:
    """Write down, here and where the offer came from, why a promotion changed nothing."""
    offer, reasons = proposal.offer, decision.blocking or decision.reasons
    _record(project, settings, offer, "decline", who(), f"From {offer}.", *reasons)
    promotion.note(project, offer, "decline", who(), f"For {settings.env}.", *reasons)
    say(STAGE, f"{offer} is not promoted, {settings.env} is as it was: {' '.join(reasons)}")
    details = Details(offer.model, offer.model.uri, tuple(reasons), {"from": offer.env})
    send_event(Event.MODEL_REJECTED, project, settings, details)
    return Promotion(offer=offer, decision=decision, approval=approval, champion=proposal.champion)


@task(name="accept", **NOT_CACHED)
def accept(
    project: Project,
    settings: Settings,
    proposal: Proposal,
    judgement: Judgement,
    approval: Approval | None,
    reason: str = "",
) -> Trained | Decision:
    """Claim the environment, register the version, make it challenger; a decision if overtaken."""
    offer = proposal.offer
    model = promotion.as_unregistered(project, settings, offer)
    notes = {
        "approved by": f"{approval.who}, {approval.reason}" if approval else "",
        "reason": reason,
    }
    try:
        promotion.claim(trail_of(project, settings), offer, model, proposal.base, notes)
    except OvertakenError as error:
        words = f"{settings.env} has changed since this promotion looked at it: {error}. Run again."
        return Decision(gate="promotion", passed=False, reasons=(words,), blocking=(words,))
    with step(STAGE, "registering in MLflow") as tell:
        offered = promotion.as_offered(project, settings, offer)
        trained = promotion.accept(offered, settings, offer, judgement)
        tell(f"{offer} is challenger here as v{trained.model.version}")
    return trained


def duel_of(
    project: Project, settings: Settings, proposal: Proposal, judgement: Judgement | None
) -> tuple[Trained, Duel]:
    """The promoted version against the champion; without a judgement it is the champion already.

    Raises:
        GateError: a claim of its model card is false; it stays challenger.
    """
    alias = registry.CHALLENGER if judgement else registry.CHAMPION
    model = registry.by_alias(project.name, alias, settings) or proposal.champion
    assert model  # noqa: S101 - `accept` has set it, or it is the champion
    trained = artifacts.record_of(model, settings)
    if judgement is None:
        reason = f"v{model.version} is champion already: a promotion before this one was cut short."
        decision = Decision(gate="promotion", passed=True, reasons=(reason,))
        return trained, Duel(
            champion=model,
            challenger_evaluation=trained.evaluation,
            champion_evaluation=None,
            decision=decision,
        )
    cards.ensure_card(project, trained, settings)
    if problems := card_verification.verify_card(model, settings, project):
        raise GateError(
            f"{model.uri} is not released: {' '.join(card_verification.claims_in_words(problems))}"
        )
    return trained, Duel(
        champion=champion_of(project, settings),
        challenger_evaluation=judgement.evaluated.candidate,
        champion_evaluation=judgement.evaluated.champion,
        decision=judgement.decision,
    )


@task(name="conclude", **NOT_CACHED, **RETRIES)
def conclude(
    project: Project,
    settings: Settings,
    proposal: Proposal,
    approval: Approval | None,
    release: Release,
) -> Promotion:
    """Tell the environment that made the offer what has become of it."""
    offer, model = proposal.offer, release.challenger
    is_champion = release.champion is not None and release.champion.digest == model.digest
    fate = "champion there" if is_champion else "sent back: " + " ".join(release.decision.reasons)
    if not (proposal.is_champion and offer.exported == settings.env):
        approved = (f"Approved by {approval.who}: {approval.reason}",) if approval else ()
        words = (settings.env, f"As v{model.version}, {fate}", *approved)
        promotion.note(project, offer, "export", who(), *words)
    say(STAGE, f"{offer} is {settings.env} v{model.version}, {fate}")
    return Promotion(
        offer=offer,
        decision=release.decision,
        approval=approval,
        model=model,
        champion=release.champion,
    )
