"""What an earlier stack left is read as if it had been made today.

`tests/fixtures/pandas2` was made under numpy 1.26, pandas 2.3, scikit-learn 1.5 and onnx 1.18, by
`python -m tests.lifecycle.test_earlier_stack FOLDER` in a checkout of that time: a lake with text
columns, two bundles and their answers. Before the next step of the stack, make one more folder.
"""

import json
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from lifecycle.data.ingest import ingest
from lifecycle.data.split import PARTS, split_dataset
from lifecycle.data.windows import first_window
from lifecycle.lake.content import digest_of
from lifecycle.lake.read import read_version
from lifecycle.lake.table import history, table_uri
from lifecycle.lake.write import write_version
from lifecycle.project import Project
from lifecycle.project.loader import load_project
from lifecycle.records import DatasetVersion
from lifecycle.settings import Settings
from lifecycle.training.bundle import load_bundle, write_bundle
from lifecycle.training.fit import bundle_schema
from lifecycle.training.matrix import open_matrices
from lifecycle.training.predictor import open_predictor
from lifecycle.training.trainers.registry import open_trainer

FIXTURES = sorted(
    file.parent for file in (Path(__file__).parents[1] / "fixtures").glob("*/recorded.json")
)
TRAINERS = {"xgboost": "xgboost", "onnx": "sklearn:ensemble.GradientBoostingClassifier"}
DECLARED: dict[str, Any] = {
    "name": "people",
    "source": {"path": "people.csv"},
    "task": "binary",
    "target": "bought",
    "positive": "yes",
    "entity": "person",
    "time": {"column": "seen", "period": "month"},
    "ignore": ["remark"],
    "contract": {
        "max_rejected_share": 0.1,
        "columns": {
            "person": {"type": "string"},
            "seen": {"type": "datetime"},
            "age": {"type": "number", "nullable": True, "minimum": 0},
            "visits": {"type": "integer", "nullable": True},
            "member": {"type": "boolean", "nullable": True},
            "city": {"type": "category", "categories": ["Łódź", "Oslo", "Lima"], "nullable": True},
            "remark": {"type": "string", "nullable": True},
            "bought": {"type": "category", "categories": ["no", "yes"]},
        },
    },
    "split": {"holdout": 0.25, "validation": 0.2},
    "training": {"rounds": 8, "early_stopping_rounds": 5, "seed": 1},
}


def people(rows: int = 300) -> pd.DataFrame:
    """Rows with every kind of column, missing cells in most."""
    at = np.arange(rows)
    noise = (at * 2654435761) % 97 / 97
    age = (at * 7) % 60 + 18.5
    return pd.DataFrame(
        {
            "person": [f"p{n // 3}" for n in at],
            "seen": [f"2021-{n % 9 + 1:02}-{n % 28 + 1:02}T0{n % 10}:00:00" for n in at],
            "age": ["" if n % 11 == 0 else f"{age[n]}" for n in at],
            "visits": ["" if n % 13 == 0 else f"{n % 17}" for n in at],
            "member": ["" if n % 7 == 0 else ("true", "false")[n % 2] for n in at],
            "city": ["" if n % 19 == 0 else ("Łódź", "Oslo", "Lima")[n % 3] for n in at],
            "remark": [None if n % 5 == 0 else f"said “{n * n}”" for n in at],
            "bought": np.where(age / 60 + (at % 3 == 0) * 0.5 + noise > 1.5, "yes", "no"),
        }
    )


def facts() -> pd.DataFrame:
    """A frame with text as its user makes it."""
    return pd.DataFrame(
        {
            "text": ["é", None, "", "b"],
            "number": [0.5, np.nan, 2.0, -0.0],
            "flag": [True, False, True, True],
            "count": pd.array([1, None, 3, 4], dtype="Int64"),
        }
    )


def open_project(folder: Path, trainer: str = "xgboost") -> Project:
    project = load_project(folder / "project.yaml")
    training = project.training.model_copy(update={"trainer": TRAINERS[trainer]})
    return project.model_copy(update={"training": training})


def prepare(project: Project, settings: Settings) -> dict[str, DatasetVersion]:
    """Every table that preparing the project leaves, and one written from a frame."""
    ingested = ingest(project, settings, first_window(project))
    parts = split_dataset(project, settings, ingested)
    assert ingested.rejected is not None
    return {
        "accepted": ingested.dataset,
        "rejected": ingested.rejected,
        "train": parts.train,
        "validation": parts.validation,
        "holdout": parts.holdout,
        "facts": write_version(facts(), table_uri(settings, project.name, "facts"), note={}),
    }


def answers(bundle: Path, project: Project, rows: pd.DataFrame) -> list[list[str]]:
    """Bits of the answers to all rows at once, and to each alone, which another library gives."""
    predictor = open_predictor(load_bundle(bundle, bundle.name), project)
    inputs = rows[list(project.input_columns)]
    alone = [predictor.predict(inputs.iloc[[at]])[0] for at in range(len(inputs))]
    return [[float(p).hex() for p in some] for some in (predictor.predict(inputs), alone)]


def write_fixture(folder: Path) -> None:
    """Write what the installed stack makes of the project."""
    folder.mkdir(parents=True)
    rows = people()
    rows.loc[[5, 150], "age"] = "-1"
    rows.to_csv(folder / "people.csv", index=False)
    (folder / "project.yaml").write_text(yaml.safe_dump(DECLARED, sort_keys=False))
    settings = Settings(home=folder)
    tables = prepare(open_project(folder), settings)
    recorded: dict[str, Any] = {
        "made with": {name: version(name) for name in ("numpy", "pandas", "scikit-learn", "onnx")},
        "tables": {n: v.model_dump(exclude={"uri"}) for n, v in tables.items()},
        "bundles": {},
    }
    for kind in TRAINERS:
        project = open_project(folder, kind)
        matrices = open_matrices(project, tables["train"], tables["validation"])
        model = open_trainer(project).fit(project, matrices, {"max_depth": 3}, threads=1).model
        schema = bundle_schema(project, matrices.schema, model.kind)
        bundle = write_bundle(model, schema, "identity", folder / "bundles")
        found = answers(bundle.path, project, read_version(tables["validation"]))
        recorded["bundles"][kind] = {"digest": bundle.digest, "answers": found}
    (folder / "recorded.json").write_text(json.dumps(recorded, indent=1))


@pytest.fixture(params=FIXTURES, ids=lambda folder: folder.name)
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a fixture: an `LIFECYCLE_HOME` with its project."""
    copied: Path = shutil.copytree(request.param, tmp_path / "home")
    return copied


@pytest.fixture
def recorded(home: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home / "recorded.json").read_text())
    return found


def test_no_version_is_made_anew(home: Path, recorded: dict[str, Any]) -> None:
    settings = Settings(home=home)
    project = open_project(home)
    tables = prepare(project, settings)
    made = {name: version.model_dump(exclude={"uri"}) for name, version in tables.items()}
    for name, facts in recorded["tables"].items():
        uri = table_uri(settings, project.name, name)
        before = DatasetVersion(uri=uri, **facts)
        if name not in PARTS:
            assert made[name] == facts
            assert len(history(uri)) == 1
        else:  # rows of their own then, row numbers now: the same rows
            pd.testing.assert_frame_equal(read_version(tables[name]), read_version(before))
            assert made[name]["rows"] == facts["rows"]


def test_a_frame_has_the_content_it_had(recorded: dict[str, Any]) -> None:
    """However its text is held: pandas 3 has a type of its own for it."""
    expected = recorded["tables"]["facts"]["digest"]
    frame = facts()
    assert digest_of(frame) == expected
    assert digest_of(frame.astype({"text": object})) == expected
    assert digest_of(frame.astype({"text": "string"})) == expected


@pytest.mark.parametrize("kind", TRAINERS)
def test_bundles_answer_bit_equal(home: Path, recorded: dict[str, Any], kind: str) -> None:
    table = recorded["tables"]["validation"]
    project = open_project(home, kind)
    uri = table_uri(Settings(home=home), project.name, "validation")
    bundle = recorded["bundles"][kind]
    rows = read_version(DatasetVersion(uri=uri, **table))
    assert answers(home / "bundles" / bundle["digest"], project, rows) == bundle["answers"]


if __name__ == "__main__":
    write_fixture(Path(sys.argv[1]))
