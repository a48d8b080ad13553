"""Ray: started on loopback and gone afterwards, or refused with a message that helps."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from lifecycle.errors import RayError
from lifecycle.runtime.cluster import _init, connect_ray
from lifecycle.settings import Settings

STARTED = textwrap.dedent("""
    import json, logging, os, sys, time
    from pathlib import Path
    import psutil
    from lifecycle.runtime.cluster import connect_ray
    from lifecycle.runtime.run import Run, running
    from lifecycle.settings import Settings

    def work():
        logging.getLogger("lifecycle.training").info("a tree, by %s", os.environ.get("SHOP_TOKEN"))
        return os.getpid()

    run = Run(id="0f7a7c9e-53f1-4c0e-9d0c-6b1f5d3c8a11", flow="train")
    settings = Settings(home=sys.argv[1], ray_cpus=1, log_format="json")
    with running(run), connect_ray(settings):
        import ray
        me = psutil.Process()
        with connect_ray(Settings(ray_address="127.0.0.1:1")):   # nested: nothing happens
            worker = ray.get(ray.remote(work).remote())
            assert worker != me.pid
        logs = Path(ray._private.worker._global_node.get_logs_dir_path())
        (log,) = logs.glob(f"worker-*-{worker}.err")
        assert ray.is_initialized()
        children = me.children(recursive=True)
        ports = [
            (p.name(), c.laddr.ip)
            for p in [me, *children]
            for c in p.net_connections("inet")
            if c.status == psutil.CONN_LISTEN
        ]
        agents = [p.pid for p in children if "Agent" in p.name() or "Agent" in p.cmdline()[0]]
        print(json.dumps({"children": [p.pid for p in children], "agents": agents, "ports": ports,
                          "log": log.read_text().splitlines()[-1],
                          "folder": ray._private.worker._global_node.temp_dir}), flush=True)
        if "wait" in sys.argv:
            time.sleep(600)
""")


def gone(pids: list[int], seconds: float) -> bool:
    """Whether all processes ended (a zombie has) within some seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        alive = [p for p in pids if psutil.pid_exists(p)]
        if all(psutil.Process(p).status() == psutil.STATUS_ZOMBIE for p in alive):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.system
def test_a_local_ray_is_on_loopback_says_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STARTED, str(tmp_path)],
        env=os.environ | {"SHOP_TOKEN": "planted-4711"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    said = json.loads(done.stdout)
    assert said["ports"]
    assert {ip for _, ip in said["ports"]} <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    assert gone(said["children"], 5)
    assert not Path(said["folder"]).exists()
    line = json.loads(said["log"])
    assert line["message"] == "a tree, by ***"
    assert line["labels"] == {
        "flow": "train",
        "flow_run_id": "0f7a7c9e-53f1-4c0e-9d0c-6b1f5d3c8a11",
    }
    assert line["trace"]["id"] == "0f7a7c9e53f14c0e9d0c6b1f5d3c8a11"


@pytest.mark.system
def test_a_killed_driver_takes_its_ray_along(tmp_path: Path) -> None:
    """All but Ray's two agents, which for a minute try to report the death to the dead GCS."""
    with subprocess.Popen(
        [sys.executable, "-c", STARTED, str(tmp_path), "wait"], stdout=subprocess.PIPE, text=True
    ) as driver:
        assert driver.stdout is not None
        said = json.loads(driver.stdout.readline())
        driver.send_signal(signal.SIGKILL)
    assert len(said["agents"]) == 2
    assert gone(sorted(set(said["children"]) - set(said["agents"])), 20)
    shutil.rmtree(said["folder"])


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another test's Ray may run in this process: neither be content with it nor stop it."""
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.shutdown", lambda: None)


@pytest.mark.usefixtures("without_ray")
@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere.invalid:6379"])
def test_an_address_where_no_ray_is(address: str) -> None:
    with (
        pytest.raises(RayError, match=r"LIFECYCLE_RAY_ADDRESS: no Ray answers at .*=local"),
        connect_ray(Settings(ray_address=address)),
    ):
        pass


@pytest.mark.usefixtures("without_ray")
@pytest.mark.parametrize("crashes", [2, 3])
def test_a_server_of_ray_client_that_crashes_is_started_again(
    crashes: int, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, object]] = []

    def init(**options: object) -> None:
        calls.append(options)
        if len(calls) <= crashes:
            trace = "Traceback (most recent call last):\n  …\nRuntimeError: it failed"
            raise ConnectionAbortedError(f"Initialization failure from server:\n{trace}")

    monkeypatch.setattr("ray.init", init)
    outside = settings.model_copy(update={"ray_address": "ray://10.0.0.2:10001"})
    if crashes == 2:
        _init(outside, outside.ray_address)
    else:
        with pytest.raises(
            RayError, match=r"from server: RuntimeError: it failed\); see ray_client"
        ):
            _init(outside, outside.ray_address)
    assert len(calls) == 3


@pytest.mark.usefixtures("without_ray")
def test_no_place_for_rays_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/proc")
    with (
        pytest.raises(RayError, match="cannot start a local Ray: /proc cannot be written"),
        connect_ray(Settings()),
    ):
        pass


@pytest.mark.usefixtures("without_ray")
@pytest.mark.parametrize(
    ("load", "advice"),
    [(17.0, "the machine is busy .load 17 on 2 CPUs, 3 attempts"), (1.0, "free memory")],
)
def test_a_ray_that_starts_too_late_says_whether_the_machine_is_busy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, load: float, advice: str
) -> None:
    def late(**_: object) -> None:
        raise RuntimeError("The current node timed out during startup.")

    monkeypatch.setattr("ray.init", late)
    monkeypatch.setattr("os.getloadavg", lambda: (load, load, load))
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    with pytest.raises(RayError, match=advice), connect_ray(Settings(home=tmp_path)):
        pass
