"""The program that Ray starts as its HAProxy: start, takeover, TLS and its end."""

import http.client
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import trustme

from lifecycle.errors import SettingsError, UnavailableError
from lifecycle.ingress import launcher
from lifecycle.runtime.servers import free_port
from lifecycle.serving.probe import Access, Probe
from lifecycle.settings import Settings
from tests.support.front import HOST, PROGRAM, ask, listens, raw, render, replica, running, wait


def test_it_says_why_it_does_not_start(folder: Path) -> None:
    config = render(folder, 8123)
    config.write_text(config.read_text() + "program x\n")
    for arguments, reason in [
        (["-db", "-f", str(config)], "unknown section: 'program x'"),
        (["-db", "-f", f"{folder}/none.cfg"], "No such file"),
        (["-v"], "no -f FILE"),
    ]:
        done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=20)
        assert done.returncode == 1
        assert "HAProxy is not started" in done.stderr
        assert reason in done.stderr
        assert "Traceback" not in done.stderr


def test_a_shared_folder_is_refused_and_left_alone(folder: Path) -> None:
    config = render(folder, 8123)
    folder.chmod(0o777)
    with pytest.raises(SettingsError, match="can be changed by other users"):
        launcher.prepare(config, first=True)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o777
    folder.chmod(0o755)
    folder.parent.chmod(0o777)
    with pytest.raises(SettingsError, match="can be changed by other users"):
        launcher.prepare(config, first=True)
    folder.parent.chmod(0o700)
    assert launcher.prepare(config, first=True) == []
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for file in ("haproxy.cfg", "watch.lua"):
        assert stat.S_IMODE((folder / file).stat().st_mode) == 0o600


def test_it_starts_soon() -> None:
    best = 9.0
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([PROGRAM], capture_output=True)
        best = min(best, time.perf_counter() - start)
    assert best < 0.5, "it is started at every change of replicas"


def test_a_new_manager_takes_over_from_the_orphan_without_a_gap(folder: Path) -> None:
    port = free_port()
    failed: list[Any] = []
    done = threading.Event()

    def probe() -> None:
        while not done.is_set():
            try:
                status = ask(port, "/small/x")[0]
            except OSError as error:
                status = repr(error)  # type: ignore[assignment]
            if status != 200:
                failed.append(status)

    with replica() as one, running(render(folder, port, small=[one]), port) as orphan:
        thread = threading.Thread(target=probe)
        thread.start()
        empty = render(folder, port)  # a manager that knows no application yet
        with running(empty, port) as second:
            wait(lambda: orphan.poll() is not None)
            assert ask(port, "/small/x")[0] == 200
            render(folder, port)  # Ray knows now that there is none: its word holds
            done.set()
            thread.join()
            with running(empty, port, ("-sf", str(second.pid))):
                wait(lambda: second.poll() is not None)
                assert ask(port, "/small/x")[0] == 503
    assert failed == []
    assert not (folder / "last.cfg").exists()


def test_the_last_configuration_of_another_address_is_not_used(folder: Path) -> None:
    launcher.prepare(render(folder, 8123, small=[30000]), first=True)
    config = render(folder, 8124)
    launcher.prepare(config, first=True)
    assert "http-small" not in config.read_text()
    assert "bind 127.0.0.1:8124" in config.read_text()


RAYLET = textwrap.dedent("""
    import subprocess, sys, time
    manager = "import subprocess, sys; p = subprocess.Popen(sys.argv[1:]); print(p.pid); p.wait()"
    child = subprocess.Popen(
        [sys.executable, "-uc", manager, *sys.argv[1:]], stdout=subprocess.PIPE, text=True
    )
    print(child.pid, child.stdout.readline(), flush=True)
    time.sleep(600)
""")


def test_haproxy_outlives_its_manager_but_not_its_ray(folder: Path) -> None:
    port = free_port()
    config = render(folder, port)
    command = [sys.executable, "-c", RAYLET, str(PROGRAM), "-db", "-f", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as raylet:
        assert raylet.stdout is not None
        manager, pid = map(int, raylet.stdout.readline().split())
        wait(lambda: listens(port))
        assert os.getpgid(pid) == pid, "Ray kills the process group of a manager that died"
        os.kill(manager, signal.SIGKILL)
        time.sleep(1.5)
        assert listens(port)
        raylet.kill()
    wait(lambda: not listens(port), 3.0)


def test_https_only_and_no_old_tls(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca = trustme.CA()
    made = ca.issue_cert("localhost", HOST)
    cert, key = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
    key.write_bytes(made.private_key_pem.bytes())
    settings = Settings(serve_tls_cert=cert, serve_tls_key=key)
    for name, value in launcher.listener(settings).items():
        monkeypatch.setenv(name, value)
    port = free_port()
    context = ssl.create_default_context()
    ca.configure_trust(context)
    with replica() as one, running(render(folder, port, small=[one]), port):
        connection = http.client.HTTPSConnection(HOST, port, timeout=5, context=context)
        connection.request("GET", "/small/x")
        assert connection.getresponse().status == 200
        connection.close()
        url = f"https://{HOST}:{port}/small"
        with Probe(url, Access(certificate=cert), patience=0) as probe:
            assert probe.ask("/x", {"records": []}).content["body"] == len(b'{"records": []}')
        other = folder / "other.pem"
        other.write_bytes(trustme.CA().cert_pem.bytes())
        with (
            Probe(url, Access(certificate=other), patience=0) as probe,
            pytest.raises(UnavailableError, match="certificate verify failed"),
        ):
            probe.ask("/x")
        assert b"200" not in raw(port, b"GET /small/x HTTP/1.1\r\nhost: x\r\n\r\n")
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        ca.configure_trust(old)
        old.set_ciphers("DEFAULT:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            old.minimum_version = ssl.TLSVersion.TLSv1
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with (
            socket.create_connection((HOST, port)) as client,
            pytest.raises((ssl.SSLError, ConnectionResetError)),
        ):
            old.wrap_socket(client, server_hostname=HOST)
    assert stat.S_IMODE((folder / "front.pem").stat().st_mode) == 0o600


def test_a_missing_certificate_starts_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECYCLE_FRONT_TLS_CERT", f"{folder}/none.pem")
    monkeypatch.setenv("LIFECYCLE_FRONT_TLS_KEY", f"{folder}/none.pem")
    done = subprocess.run(
        [PROGRAM, "-f", str(render(folder, 8123))], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "none.pem" in done.stderr


def test_the_environment_is_what_ray_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt variable would be ignored by Ray without a word."""
    import ray.serve._private.constants as known

    source = Path(known.__file__).read_text()
    folder = Path("/tmp/lc-12345678/f")  # noqa: S108
    names = [*launcher.environment(), *launcher.isolation(folder, free_port())]
    assert not [n for n in names if n.startswith("RAY_") and f'"{n}"' not in source]
    assert Path(launcher.environment()["RAY_SERVE_HAPROXY_BINARY_PATH"]).is_file()
    node = "f" * 56
    longest = launcher.files(folder)["RAY_SERVE_HAPROXY_SOCKET_PATH"].replace(
        "/sock", f"/{node}/sock"
    )
    assert len(longest) <= 97

    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(SettingsError, match="lifecycle-front is missing"):
        launcher.environment()
