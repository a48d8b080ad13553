"""Judgement steps as Prefect tasks: run the checks, let the gate decide, show both."""

import os

from prefect.artifacts import create_markdown_artifact

from lifecycle.errors import GateError
from lifecycle.project import Project
from lifecycle.quality import checks, gates, summary
from lifecycle.quality.parts import open_part
from lifecycle.quality.program import ChecksProgram, ChecksRequest
from lifecycle.quality.summary import decides
from lifecycle.records import (
    Bundle,
    CheckReport,
    Cycle,
    Decision,
    Evaluated,
    Noise,
    Period,
    Prepared,
    Release,
    Split,
    Trained,
)
from lifecycle.release import artifacts
from lifecycle.runtime.html import page, write_page
from lifecycle.runtime.identity import checks_digest
from lifecycle.settings import Settings
from lifecycle.training.bundle import load_bundle
from lifecycle.training.predictor import open_predictor
from tasks.policies import CACHED, NOT_CACHED, cached_by, checked, slug, task
from tasks.progress import say, step


def checks_program(settings: Settings) -> ChecksProgram:
    """The program that runs the checks, not yet started: a context manager."""
    return ChecksProgram(settings)


def check_candidate(
    project: Project, settings: Settings, split: Split, bundle: Bundle, program: ChecksProgram
) -> CheckReport:
    """Run the suites on train and holdout with the candidate's predictions.

    What did not run, for want of an interpreter or of time, is not taken from the cache.
    """
    if not project.checks.suites:
        return checks.without_suites(project.checks)
    report = run_suites(project, settings, split, bundle, program)
    if report.ran or program.is_used:
        return report
    return run_suites_anew(project, settings, split, bundle, program)


def _environment(settings: Settings) -> str:
    return checks_digest(settings.checks_interpreter)


@task(
    name="check",
    cache_key_fn=cached_by("checks", "project", "split", "bundle", also=_environment),
    **CACHED,
)
def _check(
    project: Project, settings: Settings, split: Split, bundle: Bundle, program: ChecksProgram
) -> CheckReport:
    with step("train", "deepchecks: data integrity, train against holdout, model") as tell_result:
        program.start()
        loaded = load_bundle(bundle.path, bundle.digest)
        predictor = open_predictor(loaded, project, os.cpu_count() or 1)
        folder = settings.folder("reports", project.name, bundle.digest[:12])
        report = checks.run_checks(
            open_part(project, split.train, predictor),
            open_part(project, split.holdout, predictor),
            ChecksRequest(
                task=project.task,
                metric=project.metric,
                spec=project.checks,
                categorical=loaded.schema.features.categorical,
                importances=loaded.importances(),
                classes=project.classes,
            ),
            folder,
            program,
        )
        if report.ran:
            failed = f" ({', '.join(report.failed)})" if report.failed else ""
            tell_result(
                f"deepchecks: {len(report.passed)} passed, {len(report.warned)} warned, "
                f"{len(report.failed)} failed{failed}, {len(report.not_run)} not run → {folder}"
            )
        else:
            reason = "; ".join(dict.fromkeys(report.not_run.values()))
            tell_result(f"deepchecks: no check ran: {reason}")
    return report


run_suites = checked(_check)
run_suites_anew = _check.with_options(refresh_cache=True)


@task(name="gate", **NOT_CACHED)
def gate_candidate(
    project: Project,
    evaluated: Evaluated,
    report: CheckReport,
    noise: Noise | None,
    stage: str = "train",
    without_champion: str = gates.NO_CHAMPION,
) -> Decision:
    """Decide whether the candidate may become challenger, and leave the reasons to be seen.

    Args:
        without_champion: why there is no champion to compare with, as a sentence.
    """
    gate, accepted = project.gate, project.checks.accept
    decision = gates.decide(
        evaluated, report, gate, project.metric, accepted, noise, without_champion
    )
    show_decision(project, stage, decision)
    return decision


def show_decision(
    project: Project, stage: str, decision: Decision, notice: Decision | None = None
) -> None:
    """Reasons on the screen (unless `notice` just now) and as a Prefect artifact."""
    verdict = "passed" if decision.passed else "NOT passed"
    lines = [f"· {reason}" for reason in decision.reasons if decides(reason)]
    if notice and notice.reasons == decision.reasons:
        lines = ["· for the reasons train told"]
    say(stage, "\n".join([f"gate {verdict}:", *lines]))
    create_markdown_artifact(key=f"{slug(project)}-{stage}-gate", markdown=gates.render(decision))


# The end of a cycle: a summary on the screen, as a page and as a Prefect artifact.


def require_champion(project: Project, release: Release) -> None:
    """Stop a cycle that has nothing to serve.

    Raises:
        GateError: the first model did not pass its gate, and there is no champion.
    """
    if release.champion is None:
        raise GateError(
            f"{project.name}: the first model did not pass the gate, so nothing is served; the "
            "summary above says what blocked, where to look and what to write"
        )


@task(name="summarise", **NOT_CACHED)
def summarise(
    project: Project,
    settings: Settings,
    prepared: Prepared,
    trained: Trained,
    first: Release,
    periods: list[Period],
) -> Cycle:
    """Tell what happened and where to look."""
    releases = [first, *(period.release for period in periods if period.release)]
    trainings = [
        trained,
        *(artifacts.record_of(release.challenger, settings) for release in releases[1:]),
    ]
    sections = summary.sections(project, settings, prepared, trainings, releases, periods)
    title = f"{project.name}: the cycle"
    report = settings.folder("reports", project.name) / "summary.html"
    write_page(page(title, sections), report)
    text = summary.as_text(sections)
    say("summary", f"{report} has every reason and table; in brief:\n\n{text}")
    create_markdown_artifact(key=f"{slug(project)}-summary", markdown=f"```\n{text}\n```")
    return Cycle(
        prepared=prepared, trained=trained, release=first, periods=tuple(periods), report=report
    )
