"""Pictures of the documentation, taken from what `make demo` left. Run by `.venv-browser`.

    .venv-browser/bin/python -m tests.support.screenshots REPORTS FOLDER

REPORTS is the project's folder of reports, with `index.html` as `lifecycle page` writes it. For the
pages of Prefect and MLflow it starts `lifecycle ui` on the home that the reports are in.
"""

import argparse
import base64
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

from playwright.sync_api import Browser, sync_playwright

from tests.support.browse import CHROMIUM, FLAGS

QUALITY = 80
SCREEN, CARD, PHONE = (1200, 800), (1200, 1000), (390, 780)
ROOT = Path(__file__).parents[2]
LOADED_MS, DRAWN_MS = 90_000, 2000
"""What a page may take to have its data, and then to draw them."""
UP = "Ctrl-C stops all"
"""What `lifecycle ui` prints once its servers answer, after their addresses."""
LOG_IN = "localStorage.setItem('prefect-password', btoa({}))"
"""What Prefect's form of log-in does, as JavaScript."""


class Servers(NamedTuple):
    """Addresses of running pages, and the text that Prefect's asks for."""

    mlflow: str
    prefect: str
    auth: str


class Shot(NamedTuple):
    """A picture to be taken.

    Attributes:
        shows: a text that is there once a page of a server has its data.
    """

    name: str
    url: str
    size: tuple[int, int] = SCREEN
    shows: str = ""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("reports", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    program = next(filter(None, map(shutil.which, CHROMIUM)))
    reports = options.reports.absolute()
    with _servers(reports.parents[1]) as servers, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        for shot in _shots(reports, servers):
            _take(browser, shot, options.folder, LOG_IN.format(json.dumps(servers.auth)))
        browser.close()


@contextmanager
def _servers(home: Path) -> Iterator[Servers]:
    """MLflow's and Prefect's pages of a home, on loopback."""
    command = [str(ROOT / ".venv" / "bin" / "lifecycle"), "ui"]
    variables = os.environ | {"LIFECYCLE_HOME": str(home), "COLUMNS": "400"}
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True) as process:
        try:
            printed = ""
            for line in process.stdout or ():
                printed += line
                if UP in line:
                    break
            mlflow, prefect, file = re.findall(r"(?:MLflow|Prefect) +(\S+)|text in (.+)", printed)
            yield Servers(mlflow[0], prefect[0], Path(file[1].strip()).read_text().strip())
        finally:
            process.terminate()
            process.communicate()


def _shots(reports: Path, servers: Servers) -> Iterator[Shot]:
    site = (reports / "index.html").as_uri()
    yield Shot("page", site, CARD)
    yield Shot("page-phone", site, PHONE)
    yield Shot("page-figures", f"{site}#figures")
    yield Shot("monitoring", _newest(reports, "monitoring-*.html"))
    evaluation = _newest(reports, "*/evaluation.html")
    yield Shot("evaluation", evaluation)
    yield Shot("card", evaluation.replace("evaluation.html", "model_card.html"))
    model = reports.name
    yield Shot("prefect", f"{servers.prefect}/runs", shows=f"retrain-{model}")
    version = f"#/models/{model}/versions/{_champion(servers.mlflow, model)}"
    yield Shot("mlflow", f"{servers.mlflow}/{version}", shows="Description")


def _champion(mlflow: str, model: str) -> str:
    query = f"registered-models/alias?name={model}&alias=champion"
    with urlopen(f"{mlflow}/api/2.0/mlflow/{query}") as answer:  # noqa: S310 - ours, on loopback
        return str(json.load(answer)["model_version"]["version"])


def _newest(reports: Path, pattern: str) -> str:
    return max(reports.glob(pattern), key=lambda file: file.stat().st_mtime).as_uri()


def _take(browser: Browser, shot: Shot, folder: Path, script: str) -> None:
    width, height = shot.size
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme="light")
    page = context.new_page()
    if shot.shows:
        page.add_init_script(script)
    page.goto(shot.url)
    if shot.shows:
        page.get_by_text(shot.shows).first.wait_for(timeout=LOADED_MS)
        page.wait_for_timeout(DRAWN_MS)
    session = context.new_cdp_session(page)
    answer = session.send("Page.captureScreenshot", {"format": "webp", "quality": QUALITY})
    (folder / f"{shot.name}.webp").write_bytes(base64.b64decode(answer["data"]))
    context.close()


if __name__ == "__main__":
    main()
