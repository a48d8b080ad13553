"""Feature views as a Prefect task: joined to what was ingested, before anything is split."""

from lifecycle.features.join import join_views
from lifecycle.project import Project
from lifecycle.records import Ingested
from lifecycle.settings import Settings
from tasks.policies import NOT_CACHED, RETRIES, task
from tasks.progress import step


def with_views(project: Project, settings: Settings, ingested: Ingested) -> Ingested:
    """The same, its dataset joined with the project's views; nothing happens without views."""
    return _join(project, settings, ingested) if project.feature_views else ingested


# what serving looks up is the view's newest version, which a cached result would not make newest;
# the same facts, rows and functions are found in the lake
@task(name="views", **NOT_CACHED, **RETRIES)
def _join(project: Project, settings: Settings, ingested: Ingested) -> Ingested:
    """Compute the features of each view, and join what was known at the time of each row."""
    names = ", ".join(project.feature_views)
    with step("prepare", f"joining {names} to {ingested.dataset.rows:,} rows") as done:
        joined = join_views(project, settings, ingested.dataset)
        done(
            f"{len(project.view_columns)} features of {names}, as known at the time of each of "
            f"{joined.rows:,} rows → joined version {joined.version}"
        )
    return ingested.model_copy(update={"dataset": joined})
