"""`lifecycle doctor`: what is wrong has its line, and the cure."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from lifecycle.runtime.nodes import ClusterNode, differences, own_facts
from lifecycle.runtime.servers import free_port
from lifecycle.serving.auth import KeyStore
from lifecycle.settings import Settings
from tasks import doctor
from tasks.doctor import Finding, examine, main
from tests.support.servers import running_web


@pytest.fixture(autouse=True)
def _no_server() -> Iterator[None]:
    """As where no server is named, though other tests of the process may have one."""
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        yield


def findings(settings: Settings) -> dict[str, Finding]:
    return {finding.subject: finding for finding in examine(settings)}


def test_dev_needs_nothing(settings: Settings) -> None:
    assert {finding.state for finding in examine(settings)} <= {"ok"}
    assert not list(settings.folder("lake").iterdir()), "what was tried is gone"


def test_outside_dev_servers_and_secrets_are_asked_for(tmp_path: Path) -> None:
    cluster = f"127.0.0.1:{free_port()}"
    settings = Settings(home=tmp_path, env="staging", ray_address=cluster)
    found = findings(settings)
    assert "PREFECT_API_URL is not set" in found["Prefect"].text
    assert "no Ray answers" in found["Ray"].text
    assert "for one machine" in found["MLflow"].text
    wrong = [finding for finding in examine(settings) if finding.subject == "secrets"]
    assert [finding.state for finding in wrong] == ["fail", "warn"]
    assert "LIFECYCLE_PII_KEY is not set" in wrong[0].text
    assert "lifecycle keys add NAME --env staging" in wrong[1].text
    KeyStore(settings.keys_file).add("shop")
    assert findings(settings)["secrets"].text.startswith("1 API key(s)")


def test_a_weak_secret_is_refused_outside_dev(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "swordfish")
    settings = Settings(home=tmp_path, env="staging", serve_access="open", pii_key="x" * 24)  # type: ignore[arg-type]
    (wrong,) = (f for f in doctor._secrets(settings) if f.state == "fail")
    assert wrong.text.startswith("MLFLOW_TRACKING_PASSWORD: short, or an ordinary word")
    assert "swordfish" not in wrong.text


@pytest.mark.parametrize(
    ("subject", "changes", "text"),
    [
        ("MLflow", {"mlflow_tracking_uri": "http://127.0.0.1:{port}"}, "start that server"),
        ("lake", {"lake_uri": "/proc/none"}, "correct LIFECYCLE_LAKE_URI"),
        ("databases", {"databases": "postgresql+psycopg://u:Pw-1@127.0.0.1:{port}/x"}, "URL"),
        ("gauges", {"pushgateway": "http://me:Pw-1@127.0.0.1:{port}"}, "LIFECYCLE_PUSHGATEWAY"),
        ("checks", {"checks_python": "/nowhere/python"}, "`make install` makes it"),
    ],
)
def test_what_does_not_answer_has_its_line(
    subject: str, changes: dict[str, str], text: str, tmp_path: Path
) -> None:
    port = str(free_port())
    changed = {name: value.replace("{port}", port) for name, value in changes.items()}
    finding = findings(Settings(home=tmp_path, **changed))[subject]  # type: ignore[arg-type]
    assert finding.state in ("fail", "warn")
    assert text in finding.text
    assert "\n" not in finding.text
    assert "Pw-1" not in finding.text


def test_where_gauges_are_pushed_or_would_be_lost(tmp_path: Path) -> None:
    outside = Settings(home=tmp_path, ray_address="ray://10.0.0.2:10001")
    (lost,) = doctor._gauges(outside)
    assert lost.state == "warn"
    assert "LIFECYCLE_PUSHGATEWAY" in lost.text
    with running_web() as web:
        web.files["/-/ready"] = b"OK"
        url = f"http://me:Pw-1@127.0.0.1:{web.port}/"
        (fine,) = doctor._gauges(outside.model_copy(update={"pushgateway": url}))
        assert fine == Finding("gauges", "ok", f"flows push to {url.replace('Pw-1', '***')}")
        web.files.clear()
        (wrong,) = doctor._gauges(outside.model_copy(update={"pushgateway": url}))
    assert wrong.state == "fail"
    assert "says 404" in wrong.text


def test_a_bucket_that_loses_a_commit_is_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    import deltalake

    real, calls = deltalake.write_deltalake, []

    def lose_every_other(*arguments: object, **options: object) -> None:
        calls.append(arguments)
        if len(calls) % 2:
            real(*arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(deltalake, "write_deltalake", lose_every_other)
    finding = findings(settings)["lake"]
    assert finding.state == "fail"
    assert "conditional writes" in finding.text


def test_little_room_and_a_clock_that_differs(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "DISK_WARN", 1 << 60)
    assert findings(settings)["home"].state == "warn"
    fine = Finding("MLflow", "ok", "http://mlflow.example")
    late = doctor._with_clock(fine, "Sun, 01 Nov 2020 00:00:00 GMT")
    assert late.state == "fail"
    assert "set both by NTP" in late.text


def test_a_node_of_other_versions_is_named() -> None:
    own = own_facts()
    other = own._replace(python="3.9.1", lock="x", code="y", clock=own.clock + 60)
    text = differences(ClusterNode("10.0.0.7", other), own)
    assert "Python 3.9.1" in text
    assert "locked packages" in text
    assert "other code" in text
    assert "differs by 60 s" in text
    assert not differences(ClusterNode("10.0.0.7", own, delay=1.0), own)
    assert differences(ClusterNode("10.0.0.7", None, "no answer within 60 s"), own)


def test_the_last_line_and_the_exit_code_say_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LIFECYCLE_HOME", str(tmp_path))
    assert main([]) == 0
    assert "dev has what it needs" in capsys.readouterr().out
    monkeypatch.setenv("LIFECYCLE_RAY_ADDRESS", f"127.0.0.1:{free_port()}")
    assert main([]) == 1
    assert "dev cannot work yet: 1 to mend" in capsys.readouterr().out
    assert main(["--env", "nowhere"]) == 2
    assert "unknown environment" in capsys.readouterr().err
