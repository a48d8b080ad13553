"""README, tutorial and how-tos: their commands and Python run, and print what the pages show.

Each page has a shell of its own in a checkout of its own. All but a few go on from where README
leaves its reader, with a model of `voters.csv`. They take half an hour in all, so that
`make test-pages` runs them and `make test` does not.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.support.blocks import COMMANDS, OUTPUT, PAGES, PYTHON, Block, blocks, missing_lines
from tests.support.checkout import make_checkout
from tests.support.postgres import running_postgres
from tests.support.shell import Shell

pytestmark = [pytest.mark.pages, pytest.mark.timeout(1800)]

README = "README.md"
RAYS_OWN = re.compile(r"^(INFO|WARNING) .* serve \d+ -- |\((?:pid|[\w:.]+ pid)=\d+")
RUN_BY = {COMMANDS: "{}", PYTHON: "python - <<'END_OF_BLOCK'\n{}END_OF_BLOCK\n"}
"""How a shell runs a block of a language."""


def is_run(block: Block) -> bool:
    """Whether a reader can run it with what the page has given so far."""
    return block.language in RUN_BY and not block.note.startswith("not run:")


RUN = [page.name for page in PAGES if any(map(is_run, blocks(page)))]


class Reader:
    """Somebody with a checkout, who follows one page after another.

    Attributes:
        folder: the checkout; always at the same path, which databases and artifacts hold.
    """

    def __init__(self, top: Path) -> None:
        self.folder, self._top = top / "checkout", top
        make_checkout(top / "fresh")

    def start_from(self, state: str) -> None:
        """Have the checkout as it was at `fresh` or after a page."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self._top / state, self.folder, symlinks=True)
        for script in (self.folder / ".venv" / "bin").iterdir():
            if not script.is_symlink():
                text = script.read_text()
                script.write_text(text.replace(str(self._top / "fresh"), str(self.folder)))

    def keep_as(self, state: str) -> None:
        """Keep the checkout as it is now."""
        shutil.copytree(self.folder, self._top / state, symlinks=True)

    def follow(self, page: Path, **environment: str) -> None:
        """Run the commands of a page in one shell, and hold its outputs to the screen."""
        with Shell(self.folder, self._top / f"log-{page.stem}", **environment) as shell:
            screen: str | None = None
            for block in blocks(page):
                if block.language in RUN_BY:
                    screen = self._run(shell, block) if is_run(block) else None
                elif block.language == OUTPUT and not block.note and screen is not None:
                    missing = missing_lines(block.text, screen)
                    assert not missing, f"{block.place}: not printed: {missing}\n{screen}"

    def _run(self, shell: Shell, block: Block) -> str:
        try:
            screen = shell.run(RUN_BY[block.language].format(block.text))
            noise = [line for line in screen.splitlines() if RAYS_OWN.search(line)]
            assert not noise, f"what Ray says to its developers: {noise}"
            return screen
        except AssertionError as error:
            raise AssertionError(f"{block.place}: {error}") from None


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Somebody who has just followed README."""
    top = tmp_path_factory.mktemp("reader")
    made = Reader(top)
    made.start_from("fresh")
    made.follow(PAGES[0])
    made.keep_as(README)
    yield made
    shutil.rmtree(top, ignore_errors=True)


def write_visits(folder: Path, stack: ExitStack) -> dict[str, str]:
    """The project of ingest.md: a file of February with one bad row, and one of March to come."""
    (folder / "visits").mkdir()
    (folder / "incoming").mkdir()
    february = visits(0, 1000, "2026-02-01")
    february.loc[76, "weight"] = -4.0
    february.to_csv(folder / "visits" / "2026-02.csv", index=False)
    march = pd.concat([visits(1000, 1801, "2026-03-01"), february.head(10).assign(weight=70.5)])
    march.to_csv(folder / "incoming" / "2026-03.csv", index=False)
    columns = {
        "visit": {"type": "integer"},
        "patient": {"type": "string", "pii": "hash"},
        "day": {"type": "datetime"},
        "weight": {"type": "number", "minimum": 0, "maximum": 500},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "returned": {"type": "integer", "minimum": 0, "maximum": 1},
    }
    project = {
        "name": "visits",
        "source": {"path": "visits/*.csv", "incremental": {"by": "files"}},
        "task": "binary",
        "target": "returned",
        "entity": "patient",
        "ignore": ["day"],
        "contract": {
            "version": "1.0.0",
            "key": ["visit"],
            "max_rejected_share": 0.01,
            "columns": columns,
        },
        "split": {"holdout": 0.2, "validation": 0.15},
    }
    (folder / "project.yaml").write_text(yaml.safe_dump(project, sort_keys=False))
    return {}


def visits(first: int, end: int, since: str) -> pd.DataFrame:
    """Rows of visits `first` to `end`, some of a day; each patient comes twice."""
    number = pd.RangeIndex(first, end)
    return pd.DataFrame(
        {
            "visit": number,
            "patient": [f"P{n // 2:05d}" for n in number],
            "day": pd.Timestamp(since) + pd.to_timedelta((number - first) // 40, unit="D"),
            "weight": 50.0 + (number * 7919) % 500 / 10,
            "age": 20 + (number * 31) % 60,
            "returned": (number * 2654435761) % 97 // 49,
        }
    )


def start_postgres(folder: Path, stack: ExitStack) -> dict[str, str]:
    """What deploy.md asks for: a PostgreSQL that `psql` reaches without asking."""
    server = stack.enter_context(running_postgres())
    return {
        "PGHOST": "127.0.0.1",
        "PGPORT": str(server.port),
        "PGUSER": server.user,
        "PGPASSWORD": server.password,
    }


FRESH = {"ingest.md", "governance.md", "feature-views.md"}
"""Pages that begin with the checkout alone."""
PREPARED: dict[str, Callable[[Path, ExitStack], dict[str, str]]] = {
    "ingest.md": write_visits,
    "deploy.md": start_postgres,
}
"""What a page's reader has besides: files, and variables of his shell."""


def test_readme_leads_to_a_served_model(reader: Reader) -> None:
    """The fixture has followed it, and held what it shows; what was asked is in the log."""
    reader.start_from(README)
    assert (reader.folder / ".lifecycle/lake/voters_vote/prediction_log/_delta_log").is_dir()


@pytest.mark.parametrize("name", [name for name in RUN if name != README])
def test_a_page_does_what_it_says(reader: Reader, name: str) -> None:
    page = next(page for page in PAGES if page.name == name)
    reader.start_from("fresh" if name in FRESH else README)
    with ExitStack() as stack:
        prepare = PREPARED.get(name, lambda folder, stack: {})
        reader.follow(page, **prepare(reader.folder, stack))
