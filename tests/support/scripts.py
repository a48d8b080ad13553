"""Scripts of ours in a user's environment, and the processes they leave."""

import os
from pathlib import Path

import psutil

from lifecycle.runtime.servers import free_port


def environment(home: Path, **more: str) -> dict[str, str]:
    """A user's environment: no Prefect profile, no MLflow, stores under `home`."""
    port = str(free_port())
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "MLFLOW", "RAY"))}
    return kept | {"LIFECYCLE_HOME": str(home), "LIFECYCLE_SERVE_PORT": port, **more}


def marked(mark: str) -> list[psutil.Process]:
    """Running processes that inherited the mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if mark == process.environ().get("TEST_MARK", ""):
                found.append(process)
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found
