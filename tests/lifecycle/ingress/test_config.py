"""Ray's HAProxy configuration, rewritten: unknown lines and missing sections are refused."""

import re
import subprocess
from pathlib import Path

import pytest

from lifecycle.errors import RayError
from lifecycle.ingress.config import Options, harden
from tests.support.front import haproxy_binary, render


@pytest.mark.parametrize("replicas", [{}, {"small": [30000], "large": [30001, 30002]}])
def test_what_ray_writes_today_is_known(folder: Path, replicas: dict[str, list[int]]) -> None:
    written = render(folder, 8123, **replicas).read_text()
    assert "bind :9101" in written
    assert "bind *:8404" in written
    text = harden(written, Options(max_body=1000))
    assert [line.strip() for line in text.splitlines() if "bind" in line] == ["bind 127.0.0.1:8123"]
    for unwanted in (
        "errorfile",
        ":514",
        "log global",
        "stats uri",
        "prometheus",
        "mode 666",
        "routes",
    ):
        assert unwanted not in text
    assert text.count("wait-for-body") == len(replicas)
    file = folder / "hard.cfg"
    file.write_text(text)
    checked = subprocess.run(
        [haproxy_binary(), "-c", "-f", str(file)], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr


def test_the_front_listens_where_it_is_told_to(folder: Path) -> None:
    written = render(folder, 8123).read_text().replace("bind 127.0.0.1:8123", "bind *:8123")
    for host, line in [
        ("10.0.0.2", "10.0.0.2:8123"),
        ("[fd00::2]", "[fd00::2]:8123"),
        ("", "*:8123"),
    ]:
        assert f"    bind {line}\n" in harden(written, Options(max_body=1000, host=host))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("listen stats", "listen more", "unknown section: 'listen more'"),
        ("listen stats", "program x", "unknown section: 'program x'"),
        ("    maxconn", "    chroot /\n    maxconn", "unknown line in global : 'chroot /'"),
        ("    mode http\n", "    email-alert x\n", "unknown line in defaults"),
        (
            "    http-reuse",
            "    filter trace\n    http-reuse",
            "unknown line in backend http-small",
        ),
        ("bind 127.0.0.1:8123", "bind 127.0.0.1:8123 ssl", "binds"),
        ("mode 666", "mode 777", "has the admin socket"),
        ("    default_backend default_backend\n", "", "ends its frontend with"),
        ("backend default_backend\n", "backend http-other\n", "ends its frontend with"),
        ("frontend http_frontend\n", "frontend web\n", "binds"),
    ],
)
def test_what_is_not_known_is_not_run(folder: Path, old: str, new: str, reason: str) -> None:
    written = render(folder, 8123, small=[30000]).read_text()
    assert old in written
    with pytest.raises(RayError, match=reason):
        harden(written.replace(old, new), Options(max_body=1000))


def test_a_section_that_is_missing(folder: Path) -> None:
    written = render(folder, 8123, small=[30000]).read_text()
    found = re.search(r"^backend default_backend\n.*\n", written, re.MULTILINE)
    assert found
    with pytest.raises(RayError, match="lacks backend default_backend"):
        harden(written.replace(found[0], ""), Options(max_body=1000))
