"""Pictures of the documentation: few, light, each taken by the script and shown on a page."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
SCRIPT = (ROOT / "tests" / "support" / "screenshots.py").read_text()
MAX_PICTURES, MAX_BYTES = 8, 150_000


def test_pictures_are_few_and_light() -> None:
    pictures = list(IMAGES.iterdir())
    assert 0 < len(pictures) <= MAX_PICTURES
    for picture in pictures:
        assert picture.suffix == ".webp"
        assert picture.stat().st_size <= MAX_BYTES, picture.name


def test_each_picture_is_taken_by_the_script_and_shown() -> None:
    names = {picture.stem for picture in IMAGES.iterdir()}
    assert names == set(re.findall(r'Shot\(\s*"([\w-]+)"', SCRIPT))
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    shown = re.findall(
        r"!\[[^\]]{10,}\]\([\w./]*images/([\w-]+)\.webp\)",
        "\n".join(page.read_text() for page in pages),
    )
    assert set(shown) == names
