"""Links from the numbers of a page to their sources, which still work when it is handed on.

Pages of an environment's reports become part of the site: those in the site's own folder are linked
as they are, others are copied into `sources/`. Runs are linked on the servers that have them.
"""

import os
import shutil
from pathlib import Path
from urllib.parse import quote

from lifecycle.page.state import EnvironmentState, VersionState
from lifecycle.runtime.files import replacing

COPIES = "sources"
MAX_COPY_BYTES = 20_000_000
"""A larger file is left where it is, and not linked."""
UI = ("http://127.0.0.1:5000", "http://127.0.0.1:4200")
"""Where `lifecycle ui` shows the MLflow and the Prefect that are files, unless told otherwise."""


class Sources:
    """Links of a site.

    Args:
        folder: of the site.
        ui: where the MLflow and the Prefect that are files are shown at this moment; empty for one
            that is a server.

    Attributes:
        waiting: environment → stores whose links open only while somebody shows them.
    """

    def __init__(self, folder: Path, ui: tuple[str, str] = ("", "")) -> None:
        self.folder = folder.absolute()
        self.waiting: dict[str, list[str]] = {}
        self._mlflow, self._prefect = (here or usual for here, usual in zip(ui, UI, strict=True))

    def mlflow_run(self, state: EnvironmentState, version: VersionState) -> str:
        """The MLflow run of a version; empty if it has none."""
        if not (version.run_id and state.experiment):
            return ""
        server = state.mlflow or self._address(state, "MLflow", self._mlflow)
        return f"{server}/#/experiments/{state.experiment}/runs/{version.run_id}"

    def flow_run(self, state: EnvironmentState, id: str) -> str:
        """A flow run on the Prefect server; empty outside a flow."""
        if not id:
            return ""
        server = state.prefect or self._address(state, "Prefect", self._prefect)
        return f"{server}/runs/flow-run/{id}"

    def _address(self, state: EnvironmentState, store: str, address: str) -> str:
        waiting = self.waiting.setdefault(state.env, [])
        if store not in waiting:
            waiting.append(store)
        return address

    def file(self, state: EnvironmentState, file: str, copied: bool = True) -> str:
        """A page of an environment's reports, made part of the site; empty if it is not there.

        Args:
            copied: whether it is copied if it lies elsewhere; else it is not linked then.

        Raises:
            OSError: it cannot be copied.
        """
        path = Path(file)
        try:
            content = path.stat()
        except OSError:  # another machine has it, or it was deleted
            return ""
        if path.is_relative_to(self.folder):
            return quote(path.relative_to(self.folder).as_posix())
        if not copied or content.st_size > MAX_COPY_BYTES:
            return ""
        reports = Path(state.reports)
        name = path.relative_to(reports) if path.is_relative_to(reports) else Path(path.name)
        copy = self.folder / COPIES / state.env / name
        self._copy(path, copy, content)
        return quote(copy.relative_to(self.folder).as_posix())

    def _copy(self, path: Path, copy: Path, content: os.stat_result) -> None:
        if copy.is_file():
            former = copy.stat()
            if (former.st_size, former.st_mtime_ns) == (content.st_size, content.st_mtime_ns):
                return
        copy.parent.mkdir(parents=True, exist_ok=True)
        with replacing(copy) as temporary:
            shutil.copy2(path, temporary)
