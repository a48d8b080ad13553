"""A Prefect server on loopback, with an environment for those who talk to it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from lifecycle.runtime.servers import free_port
from tests.support.small import ROOT

PREFECT = str(Path(sys.executable).with_name("prefect"))


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.2)


class Server:
    """A Prefect server of the test's own, and the environment of those who talk to it."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.api = f"http://127.0.0.1:{port}/api"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "MLFLOW"))}
        dev = dict(
            line.split("=", 1)
            for line in (ROOT / "deployments" / "dev.env").read_text().splitlines()
            if line and not line.startswith("#")
        )
        self.env = (
            kept
            | dev
            | {
                "PREFECT_HOME": str(folder / "prefect"),
                "PREFECT_API_URL": self.api,
                "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
                "PREFECT_WORKER_QUERY_SECONDS": "1",  # 10 by default
                "LIFECYCLE_HOME": str(folder / "lifecycle"),
                "LIFECYCLE_WORKSPACE": str(ROOT),
            }
        )
        (folder / "prefect").mkdir()
        self.log = (folder / "server.log").open("w")
        self.process = self.start("server", "start", "--host", "127.0.0.1", "--port", str(port))

    def start(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [PREFECT, *command], cwd=ROOT, env=self.env, stdout=self.log, stderr=self.log, text=True
        )

    def run(self, *command: str) -> str:
        done = subprocess.run(
            [PREFECT, "--no-prompt", *command],
            cwd=ROOT,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def make_deploy(self, env: str) -> None:
        """Run `make deploy` as a user does."""
        variables = {name: value for name, value in self.env.items() if "LIFECYCLE" not in name}
        done = subprocess.run(
            ["make", "--old-file", ".venv/.ready", "deploy", f"ENV={env}"],
            cwd=ROOT,
            env=variables,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def healthy(self) -> bool:
        try:
            return httpx.get(f"{self.api}/health").status_code == 200
        except httpx.HTTPError:
            return False

    def post(self, path: str, body: object) -> httpx.Response:
        return httpx.post(f"{self.api}{path}", json=body, timeout=30)
