"""Staging and production go over from an older environment to this one on the stack, and back.

By hand, before a release: `make upgrade-test FORMER=…/.venv/bin/python`. The steps are those of the
runbook, in its order; what is timed is printed.
"""

import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from deployments.stack import Stack
from lifecycle.errors import BackendError
from lifecycle.serving.auth import KeyStore
from tests.integration.test_stack import RUN_S, Operator, write_project
from tests.support.prefect_server import wait_for
from tests.support.small import ROOT, small_frame

FORMER = Path(os.environ.get("FORMER_PYTHON") or "none")
NEW = Path(sys.executable)
BACK_S = 60
"""Seconds after an upgrade that failed within which the former servers answer."""
END_S = 45
WORKERS = ("worker-staging", "worker-prod")
SERVERS = ("prefect", "mlflow-staging", "mlflow-prod")
RAY = ("ray-staging-1", "ray-staging")
BROKEN = f"""#!/bin/sh
# an interpreter whose migration of MLflow ends half-way
if [ "$2" = -c ]; then
    exec {NEW} -c "
import os, psycopg
url = os.environ['UPGRADE_URL'].replace('postgresql+psycopg', 'postgresql')
with psycopg.connect(url, autocommit=True) as connection:
    connection.execute('DROP TABLE tags')
    connection.execute('ALTER TABLE runs RENAME TO runs_later')
raise SystemExit('no such table: runs')"
fi
exec {NEW} "$@"
"""

pytestmark = [
    pytest.mark.system,
    pytest.mark.alone,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(not FORMER.is_file(), reason="FORMER_PYTHON names no older environment"),
]


def tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@contextmanager
def timed(what: str) -> Iterator[None]:
    begin = time.monotonic()
    try:
        yield
    finally:
        tell(f"{time.monotonic() - begin:7.1f} s  {what}")


def end(stack: Stack, *names: str) -> None:
    """End servers by SIGTERM, one after the other: a worker waits for a server that has gone."""
    for name in names:
        process = psutil.Process(stack.processes[name].pid)
        everything = [*process.children(recursive=True), process]
        process.terminate()
        _, left = psutil.wait_procs(everything, END_S)
        assert not left, f"{name} left {[each.cmdline() for each in left]}:\n{stack.tail(name)}"


class Caller(threading.Thread):
    """Somebody who asks the endpoint all the time, and notes when nobody answers.

    Attributes:
        failures: what was answered instead.
    """

    def __init__(self, operator: Operator, key: str) -> None:
        super().__init__(daemon=True)
        self._operator, self._key = operator, key
        self.failures: list[str] = []
        self.answers = 0
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.wait(0.2):
            try:
                self._operator.ask(self._key).raise_for_status()
                self.answers += 1
            except httpx.HTTPError as error:
                self.failures.append(str(error))


def test_both_environments_go_over_and_back() -> None:
    # not below pytest's own folder: PostgreSQL's user passes through
    folder = Path(tempfile.mkdtemp(prefix="up-", dir="/tmp"))
    folder.chmod(0o755)
    small_frame().to_csv(folder / "small.csv", index=False)
    write_project(folder)
    shutil.copy(FORMER.parents[2] / "prefect.yaml", folder)
    broken = folder / "broken"
    broken.write_text(BROKEN)
    broken.chmod(0o755)
    try:
        with timed("all of it"), Stack(folder, nodes=1, python=FORMER) as stack:
            go_over_and_back(stack, broken)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def go_over_and_back(stack: Stack, broken: Path) -> None:
    def upgrade(python: Path, env: str = "staging") -> str:
        words = ("upgrade", "project.yaml", "--env", env, "--python", str(python))
        with timed(f"upgrade of {env} by {python.name}"):
            return stack.command("lifecycle", *words)

    def restore() -> str:
        words = ("lifecycle", "run", "release", "--env", "staging", "--restore")
        try:
            return stack.command(*words)
        except BackendError as error:  # a server that just started, on a busy machine
            if "(timed out)" not in str(error):
                raise
            return stack.command(*words)

    def replace_ray() -> None:
        with timed("the nodes of Ray replaced, and the champion on them"):
            end(stack, *RAY)
            for name in reversed(RAY):
                stack.restart(name)
            assert "v1 is champion and answers" in restore()

    def stop_work() -> None:
        stack.command("prefect", "work-pool", "pause", "lifecycle-staging")
        running = {"flow_runs": {"state": {"type": {"any_": ["PENDING", "RUNNING"]}}}}
        wait_for(lambda: not operator.post("/flow_runs/filter", running), RUN_S, "the last run")
        with timed("workers and servers ended"):
            end(stack, *WORKERS, *SERVERS)

    def go_on() -> None:
        stack.restart(*WORKERS)
        stack.command("prefect", "work-pool", "resume", "lifecycle-staging")
        operator.flow("score")

    for env in ("staging", "prod"):
        stack.command("python", "-m", "tasks.deployments", "--env", env)
    operator = Operator(stack, [])
    for flow in ("prepare", "train", "release"):
        operator.flow(flow)
    with operator.settings("staging") as settings:
        key = KeyStore(settings.keys_file).add("tester")
    wait_for(lambda: operator.ask(key).status_code == 200, 10, "the key to hold")
    before = operator.ask(key).json()["predictions"]

    def is_as_before() -> bool:
        return operator.champion() == 1 and operator.ask(key).json()["predictions"] == before

    with pytest.raises(BackendError, match="is in use by"):
        upgrade(NEW)
    caller = Caller(operator, key)
    caller.start()
    stop_work()

    with pytest.raises(BackendError, match="staging is as it was"):
        upgrade(broken)
    begin = time.monotonic()
    with timed("the former servers answer again"):
        stack.restart(*SERVERS)
        assert is_as_before()
    assert time.monotonic() - begin < BACK_S
    go_on()
    stop_work()

    text = upgrade(NEW)
    tell(text)
    assert "staging is upgraded" in text
    databases = stack.environment["LIFECYCLE_PROD__DATABASES"].split()
    own = [url for url in databases if not url.endswith("/prefect")]  # which is upgraded already
    stack.environment["LIFECYCLE_PROD__DATABASES"] = " ".join(own)
    assert "prod is upgraded" in upgrade(NEW, "prod")

    stack.python = NEW
    shutil.copy(ROOT / "prefect.yaml", stack.folder)
    with timed("the new servers answer"):
        stack.restart(*SERVERS)
        assert is_as_before()
    with pytest.raises(BackendError, match="has other locked packages"):
        restore()
    assert caller.answers > 100
    assert not caller.failures, "the endpoint needed none of that"
    replace_ray()
    assert is_as_before()
    stack.command("python", "-m", "tasks.deployments", "--env", "staging")
    go_on()
    assert "staging has what it needs" in stack.command("lifecycle", "doctor", "--env", "staging")
    stop_work()
    stack.environment["LIFECYCLE_PROD__DATABASES"] = " ".join(databases)
    for env in ("staging", "prod"):
        with timed(f"{env} taken back"):
            text = stack.command("lifecycle", "upgrade", "--back", "--env", env)
            tell(text)
            assert f"{env} has the databases of before the upgrade" in text
    stack.python = FORMER
    with timed("the former servers answer"):
        stack.restart(*SERVERS)
        assert is_as_before()
    replace_ray()
    assert is_as_before()
    go_on()
    caller.stop.set()
    caller.join()
    tell(f"{caller.answers:,} answers, {len(caller.failures):,} not: {set(caller.failures)}")
    operator.close()
