"""The examples' project files are sound on the real data."""

from pathlib import Path

import pytest

from lifecycle.data.ingest import ingest
from lifecycle.data.sources import read_source
from lifecycle.data.split import split_version
from lifecycle.data.windows import first_window, periods
from lifecycle.features.encode import build_features, encode, fit_schema, labels, load_hook
from lifecycle.features.join import join_views
from lifecycle.lake.read import read_version
from lifecycle.project.loader import load_project
from lifecycle.settings import Settings

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize(
    ("name", "file", "rows", "rejected", "arriving"),
    [
        ("health_visits", None, 3_393, 0, 5),
        ("visit_history", None, 16_761, 0, 2),
        ("party_identification", None, 944, 0, 0),
        ("telco_churn", "telco_churn.csv", 7_043, 0, 0),
        ("bike_sharing", "bike_sharing_hour.csv", 13_003, 0, 6),
    ],
)
def test_example(
    shared_data: Path,
    settings: Settings,
    name: str,
    file: str | None,
    rows: int,
    rejected: int,
    arriving: int,
) -> None:
    project = load_project(EXAMPLES / name / "project.yaml")
    project = project.with_source(shared_data / file) if file else project
    ingested = ingest(project, settings, first_window(project))
    assert (ingested.rows_in, ingested.rows_rejected) == (rows, rejected)
    assert len(periods(project, read_source(project))) == arriving
    joined = join_views(project, settings, ingested.dataset)
    parts = split_version(project, settings, joined)
    hook = load_hook(project)
    train = read_version(parts.train)
    built = build_features(train, project, hook)
    schema = fit_schema(built, project.columns)
    assert not set(schema.names) & {*project.leakage, *project.protected, project.target}
    for part in (parts.train, parts.validation, parts.holdout):
        frame = read_version(part)
        matrix = encode(build_features(frame, project, hook), schema)
        assert matrix.shape == (part.rows, len(schema.names))
        assert labels(frame, project).std() > 0
    one = read_version(parts.holdout).head(1)
    assert encode(build_features(one, project, hook), schema).shape == (1, len(schema.names))
