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
from tasks.events import Details, Event, send_event
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
    ids = [request.id for request in requests.pending(project, settings)]
    if not ids:
        say("erase", "no request is pending (`lifecycle erase` files one)")
    return ids


@task(name="erase", **NOT_CACHED, **RETRIES)
def erase_persons(project: Project, settings: Settings, name: str) -> Erasure:
    """Find, erase and prove; killed anywhere, it goes on when it runs again."""
    request = next(pending for pending in requests.pending(project, settings) if pending.id == name)
    persons = counted(len(request.entities), "person")
    with step("erase", f"request {name}: finding and erasing {persons}"):
        erasure = erasing.erase(project, settings, request)
    tables = ", ".join(f"{table} {sum(rows.values()):,}" for table, rows in erasure.tables.items())
    say("erase", f"request {name}: {counted(erasure.rows, 'row')} ({tables or 'none found'})")
    for text in erasure.changed:
        say("erase", text)
    for text in erasure.kept:
        say("erase", f"{text}: kept, because it has no rows of these persons")
    for pending in erasure.learners:
        aliases = f" ({', '.join(pending.aliases)})" if pending.aliases else ""
        say(
            "models",
            f"{pending.model.name} v{pending.model.version}{aliases} learned from "
            f"{pending.learned:,} of "
            f"these rows and was measured on {pending.measured:,}",
        )
        if pending.needs_retraining:
            say("models", "it is the champion: train and release again (--retrain)")
    searched = erasure.searched
    if searched.unknown:
        names = ", ".join(searched.unknown)
        say("proof", f"plain {names} were not searched for; name known values with --value")
    say(
        "proof", f"{searched.files:,} files, {searched.megabytes:,} MB searched: {_result(erasure)}"
    )
    create_markdown_artifact(
        key=f"{slug(project)}-erasure",
        markdown=f"Request {name}: {erasure.rows:,} rows erased, {_result(erasure)}.",
    )
    numbers = {"rows": erasure.rows, "left": len(searched.left), "request": name}
    send_event(Event.DATA_ERASED, project, settings, Details(numbers=numbers))
    return erasure


@task(name="retention", **NOT_CACHED, **RETRIES)
def delete_expired(project: Project, settings: Settings) -> Retained:
    """Delete what is older than the contract allows; nothing where it declares no retention."""
    declared = project.contract.retention
    if declared is None:
        say("retention", "nothing to delete: the contract declares no retention.days")
        return retention.retain(project, settings)
    with step("retention", f"deleting what is older than {declared.days:g} days"):
        result = retention.retain(project, settings)
    versions = [f"{name} v{v}" for name, versions in result.versions.items() for v in versions]
    say("retention", f"deleted {', '.join(versions) or 'no version'}; {result.log_rows:,} log rows")
    for name, count in result.packed.items():
        say("retention", f"{name}: {count:,} small files put together, with the same rows")
    for name, model in result.kept.items():
        say("retention", f"{name} is kept: {model} was made from it")
    numbers = {"versions": len(versions), "log_rows": result.log_rows}
    send_event(Event.DATA_EXPIRED, project, settings, Details(numbers=numbers))
    return result


def require_proof(erasures: list[Erasure]) -> None:
    """End with an error where something is left.

    Raises:
        LifecycleError: a search found a person, or could not look somewhere.
    """
    problems = [
        place
        for erasure in erasures
        for place in (*erasure.searched.left, *erasure.searched.unsearched)
    ]
    if problems:
        raise LifecycleError("not everything is erased:\n" + "\n".join(f"  {p}" for p in problems))


def learned(erasures: list[Erasure]) -> bool:
    """Return whether a model was trained on erased rows."""
    return any(model.learned for erasure in erasures for model in erasure.learners)


def window_of_all(project: Project, settings: Settings) -> Window | None:
    """Everything that has arrived; None where nothing arrives later."""
    windows = arriving_windows(project, settings)
    return Window(last=windows[-1].last) if windows else None


def _result(erasure: Erasure) -> str:
    if erasure.searched.clean:
        return "nothing is left"
    searched = erasure.searched
    return f"{len(searched.left)} places left, {len(searched.unsearched)} could not be searched"
