"""No secret of the environment is said: in errors, log lines, tracebacks, settings."""

import base64
import pickle
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from lifecycle.errors import BackendError, RequestError
from lifecycle.redaction import HIDDEN, errors_redacted, redact, remember, weak_secrets
from lifecycle.settings import Settings
from tests.support.planted import SECRETS

ROOT = Path(__file__).parents[2]
WRONG = {
    "LIFECYCLE_ENV": "moon",
    "LIFECYCLE_HOME": "/dev/null",
    "LIFECYCLE_LAKE_URI": "/lake[1]",
    "LIFECYCLE_RAY_CPUS": "many",
    "LIFECYCLE_RAY_STORAGE": "/ray^b",
    "LIFECYCLE_RAY_DASHBOARD": "perhaps",
    "LIFECYCLE_SERVE_PORT": "99999999",
    "LIFECYCLE_SERVE_ACCESS": "everybody",
    "LIFECYCLE_SERVE_TLS_CERT": "/no/such.pem",
    "LIFECYCLE_SERVE_TLS_KEY": "/no/such.key",
}


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_hidden_in_whatever_form(name: str) -> None:
    quoted = f"cannot open {SECRETS[name]!r}; {{'value': {SECRETS[name]}}}"
    for text in (quoted, str(BackendError(quoted)), repr(BackendError(quoted))):
        assert "planted" not in redact(text)
    error = pickle.loads(pickle.dumps(BackendError(quoted)))  # noqa: S301 - our own
    assert "planted" not in str(error)


@pytest.mark.usefixtures("planted")
def test_an_auth_string_is_hidden_as_its_header_has_it() -> None:
    header = base64.b64encode(b"admin:planted-auth").decode()
    assert header not in redact(f"headers: Authorization: Basic {header}")


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("postgresql+psycopg://u:p@h/db", "postgresql+psycopg://u:***@h/db"),
        ("at https://sometoken@host/x: no", "at https://***@host/x: no"),
        ("https://h/x?a=1&sig=abc%3D&b=2", "https://h/x?a=1&sig=***&b=2"),
        ("http://127.0.0.1:5000/a@b", "http://127.0.0.1:5000/a@b"),
        ("mail someone@example.org", "mail someone@example.org"),
    ],
)
def test_urls_of_any_origin_lose_their_passwords(text: str, hidden: str) -> None:
    assert redact(text) == hidden


def test_a_short_secret_hides_no_part_of_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "data")
    assert redact("the database: data, 'data'") == f"the database: {HIDDEN}, '{HIDDEN}'"
    monkeypatch.setenv("SHOP_PASSWORD", "1")
    assert redact("1 row of 11") == "1 row of 11"
    monkeypatch.setenv("RAY_TOKEN", "true")
    assert redact("true") == "true"


def test_a_secret_that_is_a_word_does_not_garble_what_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = "lifecycle.progress: lifecycle run train, home /srv/lifecycle/prod, lifecycle-flows"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "lifecycle")
    assert redact(said) == said, "the name of a key is no secret if it is a word"
    monkeypatch.setenv("SHOP_PASSWORD", "lifecycle")
    hidden = said.replace("lifecycle run", f"{HIDDEN} run")
    assert redact(said) == hidden, "a password is hidden where it stands alone"
    assert redact("login failed for 'lifecycle'.") == f"login failed for '{HIDDEN}'."
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    assert redact("key=AKIAIOSFODNN7EXAMPLE") == f"key={HIDDEN}"


def test_weak_secrets_of_an_environment_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    before = weak_secrets()
    for name, value in {
        "MLFLOW_TRACKING_PASSWORD": "password",
        "PREFECT_API_AUTH_STRING": "admin:admin",
        "LIFECYCLE_PII_KEY": "x1-y2",
        "AWS_SECRET_ACCESS_KEY": "9f0c1d7be4a3",
        "AWS_ACCESS_KEY_ID": "minio",
        "SHOP_PASSWORD": "shop",
    }.items():
        monkeypatch.setenv(name, value)
    weak = {"LIFECYCLE_PII_KEY", "MLFLOW_TRACKING_PASSWORD", "PREFECT_API_AUTH_STRING"}
    assert set(weak_secrets()) - set(before) == weak


def test_a_path_is_no_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LIFECYCLE_SERVE_KEYS", "/keys/of/prod.json")
    assert redact("/keys/of/prod.json: cannot") == "/keys/of/prod.json: cannot"
    file = tmp_path / "account.json"
    file.write_text("{}")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    assert redact(f"{file}: cannot") == f"{file}: cannot"


@pytest.mark.usefixtures("planted")
def test_a_client_is_not_told_by_a_hidden_word_what_is_secret() -> None:
    assert str(RequestError("row 0: unknown field 'planted-pii-key'")).count("planted") == 1


@pytest.mark.usefixtures("planted")
def test_an_error_of_a_library_loses_what_it_quotes_and_others_stay_as_they_are() -> None:
    with pytest.raises(RuntimeError, match=r"^KeyError: .*\*\*\*") as caught, errors_redacted():
        raise KeyError(SECRETS)
    assert "planted" not in str(caught.value)
    shown = "".join(traceback.format_exception(caught.value))
    assert "planted" not in shown
    assert "raise KeyError(SECRETS)" in shown, "where it came from is still told"
    with pytest.raises(RequestError, match=r"^age: \*\*\*") as ours, errors_redacted():
        raise RequestError(f"age: {SECRETS['LIFECYCLE_PII_KEY']}")
    assert "planted" not in str(pickle.loads(pickle.dumps(ours.value)))  # noqa: S301 - our own
    with pytest.raises(KeyError, match="age"), errors_redacted():
        raise KeyError("age")


def test_secrets_of_an_environments_file_are_hidden_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "deployments"
    folder.mkdir()
    (folder / "qa.env").write_text(
        "LIFECYCLE_PII_KEY=only-in-the-file\n"
        "LIFECYCLE_MLFLOW_TRACKING_URI=http://u:tracking-in-file@h\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LIFECYCLE_MLFLOW_TRACKING_URI", raising=False)
    settings = Settings.load("qa")
    said = redact(f"only-in-the-file {settings!r} {settings} tracking-in-file")
    assert "only-in" not in said
    assert "tracking-in" not in said
    for text in (repr(settings), str(settings)):
        assert "only-in" not in text
        assert "tracking-in" not in text


def test_what_is_remembered_is_hidden() -> None:
    remember("told-at-run-time")
    assert redact("x told-at-run-time") == f"x {HIDDEN}"


WRONG_VALUES = """
import warnings
warnings.filterwarnings("ignore", "This process .* is multi-threaded")  # of our fork
import os, sys
import lifecycle.audit.card_trail, lifecycle.lineage.models, lifecycle.release.registry
from lifecycle.cli.main import main
sys.argv = ["lifecycle", "versions", sys.argv[1]]
for name, value in {wrong!r}.items():
    child = os.fork()  # what is imported is imported once
    if not child:
        for stream in (1, 2):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        os.environ[name] = value
        main()
    print(name, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
BOOM = """
import logging, os
from lifecycle.runtime.process import prepare_process
from lifecycle.settings import Settings
logging.basicConfig(level=logging.INFO)
prepare_process()
try:
    raise KeyError(dict(os.environ))
except KeyError:
    logging.exception("it failed: %s", dict(os.environ))
raise RuntimeError(dict(os.environ), Settings())
"""


def run(code: str, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Python code, with every secret planted."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(folder)} | SECRETS,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.component
def test_a_wrong_value_of_any_variable_shows_no_secret(tmp_path: Path) -> None:
    """What a command says, on both streams."""
    project = str(ROOT / "examples" / "health_visits" / "project.yaml")
    ended = run(WRONG_VALUES.format(wrong=WRONG), tmp_path, project)
    assert ended.stderr == ""
    assert ended.stdout.splitlines() == [f"{name} 2" for name in WRONG]
    for name in WRONG:
        said = (tmp_path / name).read_text()
        assert "planted" not in said, name
        assert name.removesuffix("_CERT").removesuffix("_KEY") in said.replace(
            "--env", "LIFECYCLE_ENV"
        )
        assert "Traceback" not in said
        assert len(said.splitlines()) == 1, said


def test_neither_traceback_nor_log_line_shows_a_secret(tmp_path: Path) -> None:
    ended = run(BOOM, tmp_path)
    said = ended.stdout + ended.stderr
    assert ended.returncode == 1, said
    assert said.count("Traceback") == 2
    assert "it failed: " in said
    assert "planted" not in said
