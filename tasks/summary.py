"""The end of a cycle: a summary on the screen, as a page and as a Prefect artifact."""

from prefect.artifacts import create_markdown_artifact

from lifecycle.errors import GateError
from lifecycle.project import Project
from lifecycle.quality import summary
from lifecycle.records import Cycle, Period, Prepared, Release, Trained
from lifecycle.runtime.html import page, write_page
from lifecycle.settings import Settings
from tasks.policies import NOT_CACHED, slug, task
from tasks.progress import say


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
    found = summary.sections(project, settings, prepared, trained, first, periods)
    title = f"{project.name}: the cycle"
    report = settings.folder("reports", project.name) / "summary.html"
    write_page(page(title, found), report)
    text = summary.as_text(found)
    say("summary", f"{report} has every reason and table; in brief:\n\n{text}")
    create_markdown_artifact(key=f"{slug(project)}-summary", markdown=f"```\n{text}\n```")
    return Cycle(
        prepared=prepared, trained=trained, release=first, periods=tuple(periods), report=report
    )
