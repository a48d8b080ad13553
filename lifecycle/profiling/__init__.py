"""Profiles: what a data set looks like, before anything is learned from it.

    from lifecycle.profiling import profile
    profile(frame, target="y")            # in a notebook: the page itself
    profile("project.yaml").save("profile.html")

`opened` says what can be profiled, `gather` passes over the rows once, `build` makes the `Summary`
of `record`, `page` and `terminal` show it.
"""

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from lifecycle.profiling.inputs import Profiled
from lifecycle.profiling.record import Summary
from lifecycle.settings import Settings

__all__ = ["Profile", "Profiled", "Summary", "profile"]


@dataclass(frozen=True)
class Profile:
    """A profile, to look at, to keep, to compute with."""

    summary: Summary

    def to_dict(self) -> dict[str, Any]:
        """Everything in it, as JSON takes it."""
        return self.summary.model_dump(mode="json")

    def save(self, path: str | Path) -> Path:
        """Write it as one HTML page that needs no network, in one atomic step.

        Raises:
            DataError: the place cannot be written.
        """
        from lifecycle.profiling.page import save_page  # jinja2 takes a while

        return save_page(self.summary, Path(path))

    def _repr_html_(self) -> str:
        """The page in a frame of its own: its style and the notebook's do not meet."""
        from lifecycle.profiling.page import page

        style = "width:100%;height:50rem;border:1px solid #d9dee5;border-radius:.3rem"
        return f'<iframe sandbox srcdoc="{escape(page(self.summary))}" style="{style}"></iframe>'

    def __repr__(self) -> str:
        summary = self.summary
        return f"<Profile {summary.title}: {summary.rows:,} rows, {len(summary.columns)} columns>"


def profile(
    data: Profiled,
    *,
    target: str | None = None,
    table: str = "accepted",
    version: int | None = None,
    against: Profiled | int | None = None,
    settings: Settings | None = None,
) -> Profile:
    """Profile a frame, an Arrow table, a project or its file, a dataset version, or a data file.

    Personal data (`pii: hash` or `drop`), the project's entity, and texts that hardly repeat are
    counted and never shown; a frame or a bare version does not say whom its rows are about. The
    same rows give the same profile.

    Args:
        data: of a project its newest version of `table`, or its source as the contract reads it
            if nothing was ingested yet.
        target: the column to predict, where no project says it.
        table: of a project.
        version: of the table; by default the newest.
        against: what to measure drift against; a number is another version of the table.
        settings: where a project's versions are; by default as the environment says.

    Raises:
        LifecycleError: it cannot be read, or there is no such column, table or version.

    >>> import pandas as pd
    >>> patients = pd.DataFrame({"age": [31, 45, 52], "city": ["Bonn", "Ulm", "Bonn"]})
    >>> profile(patients, target="city")
    <Profile frame: 3 rows, 2 columns>
    """
    from lifecycle.profiling.build import build  # scipy takes a while
    from lifecycle.profiling.inputs import open_against, open_any

    profile_input = open_any(data, target=target, table=table, version=version, settings=settings)
    other = None
    if against is not None:
        other = open_against(data, against, target=target, table=table, settings=settings)
    return Profile(build(profile_input, other))
