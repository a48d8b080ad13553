"""A page in headless Chromium: rules of accessibility, keyboard, widths. Run by `.venv-browser`.

    .venv-browser/bin/python tests/support/browse.py PAGE... [--pictures FOLDER]

Prints JSON: for each page what was found wrong, light and dark, on a screen and on a phone.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, sync_playwright

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
SIZES = {"screen": (1280, 900), "phone": (390, 844)}
MAX_TABS = 60


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("pages", nargs="+", type=Path)
    parser.add_argument("--pictures", type=Path)
    options = parser.parse_args()
    program = next(filter(None, map(shutil.which, CHROMIUM)))
    found = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        for page in options.pages:
            found[page.name] = _look(browser, page.absolute(), options.pictures)
        browser.close()
    json.dump(found, sys.stdout, indent=1)


def _look(browser: Any, path: Path, pictures: Path | None) -> dict[str, Any]:
    violations: list[str] = []
    requests: list[str] = []
    errors: list[str] = []
    overflows: list[str] = []
    stops = 0
    for size, (width, height) in SIZES.items():
        for scheme in ("light", "dark"):
            context = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme=scheme, offline=True
            )
            page = context.new_page()
            page.on("request", lambda request: requests.append(request.url))
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.goto(path.as_uri())
            page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
            if page.evaluate("document.documentElement.scrollWidth > innerWidth + 1"):
                overflows.append(f"{size} {scheme}")
            violations += _violations(page, f"{size} {scheme}")
            if pictures:
                file = pictures / f"{path.stem}-{size}-{scheme}.png"
                page.screenshot(path=file, full_page=True)
            if size == "screen" and scheme == "light":
                stops = _tab_stops(page)
            context.close()
    return {
        "violations": violations,
        "errors": errors,
        "overflows": overflows,
        "others": sorted({url for url in requests if not url.startswith(("file:", "data:"))}),
        "tab_stops": stops,
    }


def _violations(page: Page, label: str) -> list[str]:
    results = Axe().run(page).response
    return [
        f"{label}: {rule['id']}: {rule['nodes'][0]['html'][:120]} (of {len(rule['nodes'])})"
        for rule in results["violations"]
    ]


def _tab_stops(page: Page) -> int:
    """How many places the Tab key reaches, each of which must be seen to have the focus."""
    seen = set()
    for _ in range(MAX_TABS):
        page.keyboard.press("Tab")
        place = page.evaluate(
            "(() => { const e = document.activeElement, s = getComputedStyle(e);"
            " if (e === document.body) return null;"
            " return [e.outerHTML.slice(0, 200), e.matches(':focus-visible')"
            " && (s.outlineStyle !== 'none' || e.closest('svg') !== null)]; })()"
        )
        if place is None or not place[1]:
            break
        seen.add(place[0])
    return len(seen)


if __name__ == "__main__":
    main()
