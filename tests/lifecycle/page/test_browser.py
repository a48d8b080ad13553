"""Pages in headless Chromium: rules of accessibility, keyboard, phone, offline."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lifecycle.page.site import site_page
from lifecycle.page.sources import Sources
from lifecycle.page.state import EnvironmentState
from lifecycle.project import Project
from lifecycle.runtime.html import write_page
from tests.support.recorded import METRIC, recorded_state

BROWSER = Path(f"{sys.prefix}-browser") / "bin" / "python"
PROGRAM = Path(__file__).parents[2] / "support" / "browse.py"

pytestmark = [
    pytest.mark.component,
    pytest.mark.skipif(
        not (BROWSER.exists() and shutil.which("chromium")),
        reason="`make servers` installs Chromium and what drives it",
    ),
]


def look(*pages: Path) -> dict[str, Any]:
    """What the browser finds wrong in each page."""
    process = subprocess.run(
        [str(BROWSER), str(PROGRAM), *map(str, pages)], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    found: dict[str, Any] = json.loads(process.stdout)
    return found


def test_people_can_use_the_pages(make_project: Callable[..., Project], tmp_path: Path) -> None:
    project = make_project(gate={"metric": METRIC})
    lost = EnvironmentState(env="qa", problem="MLflow does not answer")
    contents = {
        "empty": [EnvironmentState(env="dev")],
        "first": [recorded_state("dev", versions=1, windows=1)],
        "seasons": [
            recorded_state("prod", versions=12, windows=90, promotes_from="dev", canary=True),
            recorded_state("dev", versions=3, windows=12),
            lost,
        ],
    }
    pages = [
        write_page(site_page(project, states, Sources(tmp_path)), tmp_path / f"{name}.html")
        for name, states in contents.items()
    ]
    for name, found in look(*pages).items():
        assert found["violations"] == [], name
        assert found["errors"] == [], name
        assert found["overflows"] == [], name
        assert found["others"] == [], name
        assert found["tab_stops"] >= 5, name
