"""Registry and release steps as Prefect tasks: idempotent where they have effects, not cached."""

from collections.abc import Sequence
from typing import Any

from lifecycle.audit.model_trail import champions, rolled_back
from lifecycle.errors import RegistryError
from lifecycle.project import Project
from lifecycle.quality import gates
from lifecycle.quality.card import remeasured_claims
from lifecycle.quality.summary import spell
from lifecycle.records import (
    Candidate,
    Change,
    Decision,
    Duel,
    Identity,
    ModelVersion,
    Trained,
)
from lifecycle.release import artifacts, card_verification, cards, register, registry
from lifecycle.release.registry import CHALLENGER, CHAMPION
from lifecycle.runtime.cluster import is_connected
from lifecycle.serving import proxy
from lifecycle.settings import Settings
from lifecycle.training.evaluation import assess
from tasks.evaluation import measure
from tasks.events import Details, Event, send_event
from tasks.policies import NOT_CACHED, RETRIES, task
from tasks.progress import say, step
from tasks.quality import show_decision
from tasks.runs import trail_of


def require_port(settings: Settings) -> None:
    """Say at once that the endpoint will find its port taken, not after an hour of training.

    Raises:
        PortInUseError: another process listens there.
    """
    if settings.local_ray and not is_connected():
        proxy.check_port(settings.serve_host, settings.serve_port)


def require_name(project: Project, settings: Settings) -> None:
    """Say at once that a name is taken by models of another task or target.

    Raises:
        ProjectError: it is.
        BackendError: the registry cannot be reached.
    """
    registry.check_name(project, settings)


@task(name="find-trained", **NOT_CACHED, **RETRIES)
def find_trained(
    project: Project, settings: Settings, identity: Identity, seeds: int = 1
) -> Trained | None:
    """The registered model with this identity, made challenger again; None if there is none.

    None too if its noise is asked for and was not measured over as many seeds, or if its checks did
    not run and now can.
    """
    model = registry.find_by_identity(project, settings, identity.digest)
    if model is None:
        return None
    trained = artifacts.record_of(model, settings)
    if seeds > 1 and (trained.noise is None or len(trained.noise.values) < seeds):
        return None
    if project.checks.suites and not trained.checks.ran and settings.checks_interpreter.is_file():
        return None
    registry.set_alias(model, CHALLENGER, settings)
    say(
        "train",
        f"identity {identity.digest[:12]} is unchanged: {model.name} v{model.version} is served "
        f"from the cache, {project.metric} {spell(trained.evaluation.metrics[project.metric])}",
    )
    return trained


def champion_of(project: Project, settings: Settings) -> ModelVersion | None:
    """The version that serves, if there is one."""
    return registry.by_alias(project.name, CHAMPION, settings)


def current_champion(project: Project, settings: Settings) -> Trained:
    """The champion with what training found out about it.

    Raises:
        RegistryError: there is none.
    """
    return _holder(project, settings, CHAMPION, "end_to_end")


def current_challenger(project: Project, settings: Settings) -> Trained:
    """The challenger with what training found out about it; the champion where none waits.

    Raises:
        RegistryError: there is neither.
    """
    if registry.by_alias(project.name, CHALLENGER, settings) is None and (
        champion := champion_of(project, settings)
    ):
        return artifacts.record_of(champion, settings)
    return _holder(project, settings, CHALLENGER, "train")


def _holder(project: Project, settings: Settings, alias: str, flow: str) -> Trained:
    model = registry.by_alias(project.name, alias, settings)
    if model is None:
        raise RegistryError(
            f"{project.name}: no model version has the alias {alias!r} in "
            f"{settings.env} ({settings.tracking_uri}); make one with "
            f"`lifecycle run {flow} {project.file}`"
        )
    return artifacts.record_of(model, settings)


@task(name="register", **NOT_CACHED, **RETRIES)
def register_challenger(project: Project, settings: Settings, candidate: Candidate) -> Trained:
    """Record everything in one MLflow run and register the bundle as challenger."""
    evaluated, bundle = candidate.evaluated, candidate.bundle
    with step("train", "registering in MLflow") as report:
        content = Trained(
            model=register.unregistered(project, candidate.identity, bundle),
            evaluation=evaluated.candidate,
            baseline=evaluated.baseline,
            checks=candidate.checks,
            decision=candidate.decision,
            split=candidate.split,
            tuned=candidate.tuned,
            identity=candidate.identity,
            noise=candidate.noise,
        )
        trained = register.register(
            project,
            settings,
            bundle=bundle,
            trained=content,
            plots=evaluated.plots,
            report=evaluated.report,
        )
        model = trained.model
        report(
            f"registered {model.name} v{model.version} (digest {model.digest[:12]}) as challenger"
        )
    numbers = {"passed": candidate.decision.passed, **trained.evaluation.metrics}
    details = Details(model, model.uri, candidate.decision.reasons, numbers)
    send_event(Event.MODEL_REGISTERED, project, settings, details)
    return trained


def is_done(project: Project, settings: Settings, trained: Trained, duel: Duel) -> bool:
    """Return whether the version is already champion, and no Ray is there to serve it.

    A Ray started by this script would end with it. A release that was killed between the alias and
    its line in the trail is not done.
    """
    if duel.champion != trained.model or not settings.local_ray or is_connected():
        return False
    return _cut_short(trail_of(project, settings).changes(), trained.model) is None


def _cut_short(changes: Sequence[Change], champion: ModelVersion) -> Change | None:
    """The newest line if it deploys the champion that no line has made champion."""
    last = changes[-1] if changes else None
    if last is None or (last.action, last.version) != ("deploy", champion.version):
        return None
    return None if champions(changes)[-1:] == [champion.version] else last


@task(name="challenge", **NOT_CACHED, **RETRIES)
def challenge(project: Project, settings: Settings, trained: Trained, again: bool = False) -> Duel:
    """Measure challenger and champion on the challenger's holdout, and let the gate decide.

    A version that was rolled back does not pass, unless it may come back `again`. Nor does one
    whose model card claims what is not so, by the store or by the new measurement.
    """
    champion = champion_of(project, settings)
    changes = trail_of(project, settings).changes()
    if champion == trained.model:
        text = f"{champion.name} v{champion.version} is champion already; no other version waits."
        cut_short = _cut_short(changes, champion)
        reasons = cut_short.reasons if cut_short else (text,)
        duel = _undisputed(trained, champion, "promotion", True, reasons)
    elif not again and (change := rolled_back(changes, trained.model.digest)):
        former_reasons = " ".join(f"{reason.rstrip('.')}." for reason in change.reasons)
        reason = (
            f"v{trained.model.version} was rolled back on {change.time[:10]} by {change.who}: "
            f"{former_reasons} "
            "That holds until data, code or project file give another model, or somebody runs "
            "the release with --again."
        )
        duel = _undisputed(trained, champion, "rollback", False, (reason,))
    else:
        duel = _verified(project, settings, trained, champion)
    show_decision(project, "release", duel.decision, None if trained.cached else trained.decision)
    return duel


def _verified(
    project: Project, settings: Settings, trained: Trained, champion: ModelVersion | None
) -> Duel:
    """The duel, unless a claim of the challenger's model card is false."""
    cards.ensure_card(project, trained, settings)
    false_claims = card_verification.verify_card(trained.model, settings, project)
    if not false_claims:
        duel = _measure(project, settings, trained, champion)
        card = cards.read_card(trained.model, settings)
        false_claims = remeasured_claims(card, duel.challenger_evaluation, project) if card else []
        if not false_claims:
            return duel
    reasons = card_verification.claims_in_words(false_claims)
    return _undisputed(trained, champion, "model card", False, reasons)


def _undisputed(
    trained: Trained,
    champion: ModelVersion | None,
    gate: str,
    passed: bool,
    reasons: tuple[str, ...],
) -> Duel:
    """A duel that is decided without measuring."""
    return Duel(
        champion=champion,
        challenger_evaluation=trained.evaluation,
        champion_evaluation=None,
        decision=Decision(gate=gate, passed=passed, reasons=reasons),
    )


def _measure(
    project: Project, settings: Settings, trained: Trained, champion: ModelVersion | None
) -> Duel:
    path = artifacts.bundle_path(trained.model, settings)
    answers = assess.answer(project, trained.split.holdout, path, trained.model.digest)
    measured = measure(project, settings, trained.split, answers, champion)
    update: dict[str, Any] = {
        "subject": f"challenger v{trained.model.version}",
        "warnings": trained.evaluation.warnings,
    }
    if project.protected:
        update["gaps"] = assess.assess_fairness(project, answers)
    evaluation = measured.candidate.model_copy(update=update)
    decision = gates.decide(
        measured.model_copy(update={"candidate": evaluation}),
        trained.checks,
        project.gate,
        project.metric,
        project.checks.accept,
        trained.noise,
    )
    return Duel(
        champion=champion,
        challenger_evaluation=evaluation,
        champion_evaluation=measured.champion,
        decision=decision,
    )
