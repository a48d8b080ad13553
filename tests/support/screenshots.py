"""Pictures of the documentation, taken from pages that `make demo` left. Run by `.venv-browser`.

    .venv-browser/bin/python -m tests.support.screenshots REPORTS FOLDER

REPORTS is the project's folder of reports, with `index.html` as `lifecycle page` writes it.
"""

import argparse
import base64
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from playwright.sync_api import Browser, sync_playwright

from tests.support.browse import CHROMIUM, FLAGS

QUALITY = 80
SCREEN, PHONE = (1200, 800), (390, 780)


class Shot(NamedTuple):
    """A picture to be taken."""

    name: str
    url: str
    size: tuple[int, int] = SCREEN


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("reports", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    program = next(filter(None, map(shutil.which, CHROMIUM)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        for shot in _shots(options.reports.absolute()):
            _take(browser, shot, options.folder)
        browser.close()


def _shots(reports: Path) -> Iterator[Shot]:
    site = (reports / "index.html").as_uri()
    yield Shot("page", site)
    yield Shot("page-phone", site, PHONE)
    yield Shot("page-figures", f"{site}#figures")
    yield Shot("monitoring", _newest(reports, "monitoring-*.html"))
    evaluation = _newest(reports, "*/evaluation.html")
    yield Shot("evaluation", evaluation)
    yield Shot("card", evaluation.replace("evaluation.html", "model_card.html"))


def _newest(reports: Path, pattern: str) -> str:
    return max(reports.glob(pattern), key=lambda file: file.stat().st_mtime).as_uri()


def _take(browser: Browser, shot: Shot, folder: Path) -> None:
    width, height = shot.size
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme="light")
    page = context.new_page()
    page.goto(shot.url)
    session = context.new_cdp_session(page)
    answer = session.send("Page.captureScreenshot", {"format": "webp", "quality": QUALITY})
    (folder / f"{shot.name}.webp").write_bytes(base64.b64decode(answer["data"]))
    context.close()


if __name__ == "__main__":
    main()
