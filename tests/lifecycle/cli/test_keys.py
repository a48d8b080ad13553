"""`lifecycle keys` and `lifecycle front-env`: what they keep, say, and refuse."""

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lifecycle.cli.main import main
from lifecycle.serving.auth import Gatekeeper, KeyStore

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Exit code, stdout and stderr of a command in this process."""
    monkeypatch.setenv("LIFECYCLE_SERVE_KEYS", str(tmp_path / "keys.json"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lifecycle", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


def test_a_key_is_shown_once_and_lets_in(run: Run, tmp_path: Path) -> None:
    code, out, err = run("keys", "add", "ci", "--rate", "50", "--project", "small")
    assert code == 0
    key = out.strip()
    assert "Key 'ci' for small, 50 requests per second" in err
    assert "dev requires no keys" in err
    gate = Gatekeeper(tmp_path / "keys.json", "small")
    assert gate.check([(b"x-api-key", key.encode())]) == "ci"

    code, out, err = run("keys", "list")
    assert code == 0
    assert "ci" in out
    assert "50" in out
    assert "in use" in out
    assert key not in out + err + (tmp_path / "keys.json").read_text()


def test_a_revoked_key_says_so(run: Run, tmp_path: Path) -> None:
    assert run("keys", "add", "ci", "--env", "prod")[2].count("\n") == 1
    code, out, err = run("keys", "revoke", "ci")
    assert (code, out, err) == (0, "", "Key 'ci' is revoked\n")
    assert "revoked" in run("keys", "list")[1]
    assert KeyStore(tmp_path / "keys.json").list()[0].revoked


def test_no_keys_yet(run: Run) -> None:
    code, out, _ = run("keys", "list")
    assert code == 0
    assert "no keys in" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("revoke", "nobody"), "has no key 'nobody'; keys in use: none"),
        (("add", "a b"), "key name 'a b': use 1 to 64 letters"),
        (("add", "ci", "--rate", "0"), "must be above 0 requests per second"),
        (("add", "ci", "--env", "moon"), "unknown environment 'moon'"),
    ],
)
def test_mistakes_end_with_2(run: Run, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = run("keys", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_front_env_is_what_a_shell_reads(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "my cert's.pem"
    monkeypatch.setenv("LIFECYCLE_SERVE_TLS_CERT", str(odd))
    monkeypatch.setenv("LIFECYCLE_SERVE_TLS_KEY", str(odd))
    code, out, err = run("front-env", "--env", "prod")
    assert (code, err) == (0, "")
    folder = tmp_path / "front"
    made = next(line for line in out.splitlines() if line.startswith("mkdir -p -m 700 "))
    script = out.replace(shlex.split(made)[-1], str(folder))
    show = f"{sys.executable} -c 'import os, json; print(json.dumps(dict(os.environ)))'"
    done = subprocess.run(
        ["sh", "-ec", f"{script}\n{show}"], capture_output=True, text=True, check=True
    )
    variables = json.loads(done.stdout)
    assert variables["LIFECYCLE_FRONT_TLS_CERT"] == str(odd)
    assert variables["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    assert variables["RAY_SERVE_HAPROXY_CONFIG_FILE_LOC"] == str(folder / "haproxy.cfg")
    assert folder.stat().st_mode & 0o777 == 0o700


def test_two_endpoints_of_one_machine_have_fronts_of_their_own(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = []
    for port in ("8001", "8002"):
        monkeypatch.setenv("LIFECYCLE_SERVE_PORT", port)
        _, out, _ = run("front-env")
        folders.append(out.splitlines()[0])
    assert folders[0] != folders[1]
