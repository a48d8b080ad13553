"""Erasing and retention as Prefect tasks; a task is told a request's name, never a person's."""

from pathlib import Path

from prefect.artifacts import create_markdown_artifact

from lifecycle.errors import LifecycleError
from lifecycle.governance import erase as erasing
from lifecycle.governance import requests, retention
from lifecycle.project import Project
from lifecycle.records import Erasure, Retained, Window, counted
from lifecycle.settings import Settings
from tasks.data import arriving_windows
from tasks.policies import NOT_CACHED, RETRIES, slug, task
from tasks.progress import say, step


def file_request(
    project: Project,
    settings: Settings,
    entities: list[str],
    file: Path | None,
    reason: str,
    values: list[str],
) -> None:
    """Keep whom to erase where Prefect does not see it.

    Raises:
        ProjectError: there are values but no person.
    """
    persons = erasing.read_entities(entities, file)
    if persons or values:
        requests.file_request(project, settings, persons, reason, values)


def pending_requests(project: Project, settings: Settings) -> list[str]:
    """Names of the requests to carry out, oldest first."""
    found = [request.id for request in requests.pending(project, settings)]
    if not found:
        say("erase", "no request is pending (`lifecycle erase` files one)")
    return found


@task(name="erase", **NOT_CACHED, **RETRIES)
def erase_persons(project: Project, settings: Settings, name: str) -> Erasure:
    """Find, erase and prove; killed anywhere, it goes on when it runs again."""
    request = next(one for one in requests.pending(project, settings) if one.id == name)
    persons = counted(len(request.entities), "person")
    with step("erase", f"request {name}: finding and erasing {persons}"):
        done = erasing.erase(project, settings, request)
    tables = ", ".join(f"{table} {sum(rows.values()):,}" for table, rows in done.tables.items())
    say("erase", f"request {name}: {counted(done.rows, 'row')} ({tables or 'none found'})")
    for text in done.changed:
        say("erase", text)
    for text in done.kept:
        say("erase", f"{text}: kept, it holds no row of theirs")
    for one in done.learners:
        aliases = f" ({', '.join(one.aliases)})" if one.aliases else ""
        say(
            "models",
            f"{one.model.name} v{one.model.version}{aliases} learned from {one.learned:,} of "
            f"these rows and was measured on {one.measured:,}",
        )
        if one.needs_retraining:
            say("models", "it is the champion: train and release anew (--retrain)")
    searched = done.searched
    if searched.unknown:
        names = ", ".join(searched.unknown)
        say("proof", f"not searched for: plain {names}; name what you know of it with --value")
    say("proof", f"{searched.files:,} files, {searched.megabytes:,} MB searched: {_result(done)}")
    create_markdown_artifact(
        key=f"{slug(project)}-erasure",
        markdown=f"Request {name}: {done.rows:,} rows erased, {_result(done)}.",
    )
    return done


@task(name="retention", **NOT_CACHED, **RETRIES)
def delete_expired(project: Project, settings: Settings) -> Retained:
    """Delete what is older than the contract allows; nothing where it declares no retention."""
    declared = project.contract.retention
    if declared is None:
        say("retention", "nothing to delete: the contract declares no retention.days")
        return retention.retain(project, settings)
    with step("retention", f"deleting what is older than {declared.days:g} days"):
        done = retention.retain(project, settings)
    versions = [f"{name} v{v}" for name, gone in done.versions.items() for v in gone]
    say("retention", f"deleted {', '.join(versions) or 'no version'}; {done.log_rows:,} log rows")
    for name, model in done.kept.items():
        say("retention", f"{name} is kept: {model} was made from it")
    return done


def require_proof(done: list[Erasure]) -> None:
    """End with an error where something is left.

    Raises:
        LifecycleError: a search found a person, or could not look somewhere.
    """
    problems = [place for one in done for place in (*one.searched.left, *one.searched.unsearched)]
    if problems:
        raise LifecycleError("not all is erased:\n" + "\n".join(f"  {p}" for p in problems))


def learned(done: list[Erasure]) -> bool:
    """Whether a model learned from what was erased."""
    return any(model.learned for one in done for model in one.learners)


def window_of_all(project: Project, settings: Settings) -> Window | None:
    """Everything that has arrived; None where nothing arrives later."""
    windows = arriving_windows(project, settings)
    return Window(last=windows[-1].last) if windows else None


def _result(done: Erasure) -> str:
    if done.searched.clean:
        return "nothing is left"
    searched = done.searched
    return f"{len(searched.left)} places left, {len(searched.unsearched)} could not be searched"
