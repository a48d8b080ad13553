"""Rolling out and back as Prefect tasks: what serves, what is watched, and where people see it."""

import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lifecycle.audit.model_trail import Trail, champions
from lifecycle.errors import LifecycleError, first_line
from lifecycle.lake.read import open_frames, read_head
from lifecycle.project import Project
from lifecycle.records import (
    DatasetVersion,
    Decision,
    Duel,
    Endpoint,
    ModelVersion,
    Release,
    Traffic,
    Trained,
)
from lifecycle.release import artifacts, cards, hooks, policies, registry, rollback, rollout
from lifecycle.release.watch import LogWatch
from lifecycle.serving import deployment
from lifecycle.serving.auth import KeyStore
from lifecycle.serving.online_features import ServedViews, as_requests
from lifecycle.serving.predictor import engine_for
from lifecycle.serving.probe import Access
from lifecycle.serving.records import curl_command
from lifecycle.serving.smoke import Offline, smoke_test
from lifecycle.settings import Settings
from lifecycle.training.bundle import load_bundle
from lifecycle.training.predictor import open_predictor
from tasks.events import Details, Event, send_event
from tasks.policies import NOT_CACHED, task
from tasks.progress import say, step, update
from tasks.quality import show_decision
from tasks.runs import trail_of


class ServeLane:
    """Ray Serve as a rollout wants it (`lifecycle.release.rollout.Lane`).

    Each version is served with the features hook of its training, and tried on its own holdout.
    """

    def __init__(self, project: Project, settings: Settings) -> None:
        self._project, self._settings = project, settings

    def serving(self) -> ModelVersion | None:
        return deployment.serving(self._project.name)

    def rehearse(self, model: ModelVersion) -> None:
        project, path = self._as_trained(model)
        schema = load_bundle(path, model.digest).schema
        rows = read_head(self._holdout(model), project.serving.smoke_rows)
        rows = as_requests(rows, schema, project)
        deployment.rehearse(path, model, project, self._settings, rows)

    def deploy(self, model: ModelVersion) -> Endpoint:
        project, path = self._as_trained(model)
        holdout, loaded = self._holdout(model), load_bundle(path, model.digest)
        predictor, schema = open_predictor(loaded, project, os.cpu_count() or 1), loaded.schema
        rows = as_requests(read_head(holdout, project.serving.smoke_rows), schema, project)
        answers: list[NDArray[np.float64]] = []

        def holdout_frames() -> Iterator[pd.DataFrame]:
            for frame in open_frames(holdout, list(schema.inputs)):
                answers.append(predictor.predict(frame))
                yield frame

        frames = holdout_frames()
        engine = engine_for(path, model, project, frames)
        deque(frames, maxlen=0)  # what the engine had no need to look at
        predicted = np.concatenate(answers)
        expected = predicted[: len(rows)]
        if schema.views:  # the endpoint answers as of today
            today = ServedViews(schema.views, project, self._settings).frame(rows)
            expected = open_predictor(loaded, project).predict(today)
        with self._access() as access:
            url = deployment.deploy(path, model, project, self._settings, engine)
            smoke = smoke_test(
                url,
                model,
                Offline(rows, expected, project.classes, float(abs(predicted).max())),
                access=access,
                max_p99_milliseconds=project.serving.max_p99_milliseconds,
            )
        return Endpoint(
            url=url,
            application=project.name,
            model=model,
            smoke_rows=smoke.rows,
            p50_milliseconds=smoke.p50_milliseconds,
            p99_milliseconds=smoke.p99_milliseconds,
            curl=curl_command(url, rows.head(1)),
        )

    def start_candidate(self, model: ModelVersion) -> None:
        project, path = self._as_trained(model)
        columns = list(load_bundle(path, model.digest).schema.inputs)
        engine = engine_for(path, model, project, open_frames(self._holdout(model), columns))
        deployment.start_candidate(path, model, project, self._settings, engine)

    def set_traffic(self, traffic: Traffic) -> None:
        deployment.set_traffic(self._project, self._settings, traffic)

    def stop_candidate(self) -> None:
        deployment.stop_candidate(self._project.name)

    @contextmanager
    def _access(self) -> Iterator[Access]:
        """The way into the endpoint, with a key that holds for the block only.

        Where no key is asked for it still marks the rows of the smoke test in the prediction log.
        """
        settings = self._settings
        store = KeyStore(settings.keys_file)
        with store.internal("smoke-test", self._project.name) as key:
            yield Access(key, settings.serve_tls_cert)

    def _as_trained(self, model: ModelVersion) -> tuple[Project, Path]:
        path = artifacts.bundle_path(model, self._settings)
        return hooks.as_trained(self._project, model, self._settings), path

    def _holdout(self, model: ModelVersion) -> DatasetVersion:
        return artifacts.record_of(model, self._settings).split.holdout


@task(name="roll-out", **NOT_CACHED)
def roll_out(
    project: Project, settings: Settings, trained: Trained, duel: Duel, reason: str = ""
) -> Release:
    """Put the challenger in front of traffic as the project's policy says, or send it back."""
    challenger, champion = trained.model, duel.champion
    lane, trail = ServeLane(project, settings), trail_of(project, settings)
    if champion == challenger and _is_settled(challenger, lane, trail):
        lane.stop_candidate()
        return keep(project, settings, trained, duel)
    reasons = duel.decision.reasons
    if reason and reason not in reasons:  # of a release that was cut short they are those of then
        reasons = (*reasons, reason)
    handover = rollout.Handover(
        challenger=challenger,
        champion=champion,
        decision=duel.decision.model_copy(update={"reasons": reasons}),
        lane=lane,
        trail=trail,
        spec=project.serving.rollout,
        watch=LogWatch(project, settings, challenger, champion or challenger, time.time()),
        tell=_tell,
        classes=bool(project.classes),
    )
    with step("release", f"deploying v{challenger.version} on Ray Serve") as report:
        outcome = policies.roll_out(handover)
        if outcome.decision.gate != duel.decision.gate:
            show_decision(project, "rollout", outcome.decision)
        if outcome.endpoint:
            report(_champion_answers(outcome.endpoint))
        else:
            report(f"v{challenger.version} was sent back, the champion answers; {_trail(project)}")
    _update_cards(project, settings)
    event = Event.MODEL_RELEASED if outcome.endpoint else Event.MODEL_REJECTED
    _send(event, project, settings, challenger, outcome.decision)
    return concluded(trained, duel, outcome)


def _is_settled(model: ModelVersion, lane: ServeLane, trail: Trail) -> bool:
    """Return whether a release of this version is complete: served, recorded, no challenger."""
    served = lane.serving()
    return (
        served is not None
        and rollout.same(served, model)
        and champions(trail.changes())[-1:] == [model.version]
        and registry.by_alias(model.name, registry.CHALLENGER, trail.settings) != model
    )


@task(name="reject", **NOT_CACHED)
def reject(project: Project, settings: Settings, trained: Trained, duel: Duel) -> Release:
    """Write down that the gate refused a challenger; the champion goes on serving.

    That a rollback still holds is no news for the trail.
    """
    if duel.decision.gate != "rollback":
        trail_of(project, settings).record("reject", trained.model, duel.decision.reasons)
        _send(Event.MODEL_REJECTED, project, settings, trained.model, duel.decision)
    return concluded(trained, duel, None)


def hold(project: Project, settings: Settings, trained: Trained, duel: Duel) -> Release:
    """Leave a challenger that passed to a person, who is told."""
    reason = (
        f"v{trained.model.version} passed the gate and waits as challenger, since {settings.env} "
        "requires an approval (LIFECYCLE_APPROVAL). Whoever approves it releases it: "
        f'lifecycle run release --env {settings.env} --reason "…"'
    )
    reasons = (reason, *duel.decision.reasons)
    decision = Decision(gate="approval", passed=False, reasons=reasons, blocking=(reason,))
    say("release", reason)
    _send(Event.RETRAINING_STOPPED, project, settings, trained.model, decision)
    return concluded(trained, duel.model_copy(update={"decision": decision}), None)


def keep(project: Project, settings: Settings, trained: Trained, duel: Duel) -> Release:
    """Say that the champion is what a release would make the champion: nothing is to be done.

    A release that was killed before its last step, or a training that found this version, has left
    it challenger, too; that ends here.
    """
    registry.delete_alias(trained.model, registry.CHALLENGER, settings)
    _update_cards(project, settings)
    version = f"{project.name} v{trained.model.version}"
    say("release", f"{version} is already champion and no other version waits: nothing to do")
    return concluded(trained, duel, None)


@task(name="roll-back", **NOT_CACHED)
def roll_back(project: Project, settings: Settings, reason: str = "") -> Release:
    """End a canary or shadow that is under way, or serve the champion before again."""
    champion = registry.by_alias(project.name, registry.CHAMPION, settings)
    models = {model.version: model for model in registry.versions(project.name, settings)}
    with step("release", "rolling back") as report:
        rolled = rollback.roll_back(
            champion,
            models,
            ServeLane(project, settings),
            trail_of(project, settings),
            reason,
        )
        decision = Decision(gate="rollback", passed=True, reasons=rolled.reasons)
        show_decision(project, "rollback", decision)
        if rolled.endpoint:
            report(_champion_answers(rolled.endpoint))
        else:
            champion = rolled.champion
            report(
                f"v{rolled.away.version} was sent back; v{champion.version} is champion as before"
            )
    _update_cards(project, settings)
    _send(Event.MODEL_ROLLED_BACK, project, settings, rolled.away, decision)
    return Release(
        decision=decision,
        challenger=rolled.away,
        champion=rolled.champion,
        evaluation=artifacts.evaluation_of(rolled.away, settings),
        champion_evaluation=None,
        endpoint=rolled.endpoint,
    )


@task(name="restore-champion", **NOT_CACHED)
def restore_champion(
    project: Project, settings: Settings, trained: Trained, reason: str = ""
) -> Release:
    """Serve the champion again where its cluster was started anew; one that answers is left alone.

    Another version waits for its own release, which would judge it.
    """
    champion, lane, endpoint = trained.model, ServeLane(project, settings), None
    served = lane.serving()
    version = f"{champion.name} v{champion.version}"
    if served is not None and rollout.same(served, champion):
        reasons: tuple[str, ...] = (f"{version} answers already.",)
        say("release", f"{version} is champion and answers already: nothing to do")
    else:
        state = "nothing" if served is None else f"v{served.version}"
        reasons = (f"It is the champion, and {state} answered.", *((reason,) if reason else ()))
        with step("release", f"deploying the champion v{champion.version} on Ray Serve") as report:
            endpoint, trail = lane.deploy(champion), trail_of(project, settings)
            trail.record("deploy", champion, reasons)
            if champions(trail.changes())[-1:] != [champion.version]:
                # the registry went back, as to the databases of before an upgrade, or by hand
                trail.record("promote", champion, ("The registry has it as champion.",))
            report(_champion_answers(endpoint))
    return Release(
        decision=Decision(gate="restore", passed=True, reasons=reasons),
        challenger=champion,
        champion=champion,
        evaluation=trained.evaluation,
        champion_evaluation=None,
        endpoint=endpoint,
    )


def _update_cards(project: Project, settings: Settings) -> None:
    """Give model cards the status that a release has made; a failure waits for the next one."""
    try:
        cards.update_statuses(project.name, settings)
    except LifecycleError as error:  # what serves is settled, and the trail has it
        say("release", f"model cards keep their status until the next release: {first_line(error)}")


def concluded(trained: Trained, duel: Duel, outcome: rollout.RolloutOutcome | None) -> Release:
    """Build the result of a release; without an outcome the gate refused the challenger."""
    endpoint = outcome.endpoint if outcome else None
    return Release(
        decision=outcome.decision if outcome else duel.decision,
        challenger=trained.model,
        champion=trained.model if endpoint else duel.champion,
        evaluation=duel.challenger_evaluation,
        champion_evaluation=duel.champion_evaluation,
        endpoint=endpoint,
    )


def _send(
    event: Event, project: Project, settings: Settings, model: ModelVersion, decision: Decision
) -> None:
    send_event(event, project, settings, Details(model, model.uri, decision.reasons))


def _tell(text: str, stays: bool) -> None:
    if stays:
        say("release", text)
    else:
        update("release", text, notable=False)


def _champion_answers(endpoint: Endpoint) -> str:
    return (
        f"{endpoint.model.name} v{endpoint.model.version} is champion and answers at "
        f"{endpoint.url}; {endpoint.smoke_rows} holdout rows over HTTP equal the offline model, "
        f"one takes {endpoint.p50_milliseconds:.3g} ms (99 of 100: {endpoint.p99_milliseconds:.3g})"
    )


def _trail(project: Project) -> str:
    return f"every step: `lifecycle audit {project.file}`"
