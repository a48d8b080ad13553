"""Lineage as OpenLineage events: as published, whole, told again the same; to file and HTTP."""

import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from openlineage.client.serde import Serde
from referencing import Registry, Resource

from lifecycle.errors import BackendError
from lifecycle.lake.read import read_version
from lifecycle.lineage import walk
from lifecycle.lineage.emit import send, tell_run
from lifecycle.lineage.openlineage import events_of, place_of
from tests.support.lived import RUN, Lived
from tests.support.published import (
    EVENT_TYPES,
    REQUIRED,
    SPECIFICATION,
    check,
    definitions_of,
    facets_of,
)

Event = dict[str, Any]
TIMES = ("2020-01-01T00:00:00.000Z", "2020-01-01T00:01:00.000Z")


class Service(ThreadingHTTPServer):
    """Takes events as Marquez does."""

    status = 201

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.got: list[tuple[str, str, Event]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.got.append((self.path, self.headers.get("Authorization", ""), body))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def told(lived: Lived, ref: str) -> list[Any]:
    graph = walk.load_graph(lived.project, lived.settings)
    found = graph.around("small", walk.find(graph, lived.project, lived.settings, ref))
    return events_of(graph, [node.id for node in found.nodes], lived.project, lived.settings)


def as_json(events: list[Any]) -> list[Event]:
    return [json.loads(Serde.to_json(event)) for event in events]


@pytest.fixture(scope="module")
def events(lived: Lived) -> list[Event]:
    return as_json(told(lived, "accepted"))


def test_events_are_as_published(events: list[Event]) -> None:
    for event in events:
        check(event)


@pytest.fixture(scope="module")
def published(shared_schemas: Path) -> Registry:
    """The specification's own schemas, by the address that events name them with."""
    files = (shared_schemas / "openlineage").rglob("*.json")
    schemas = [Resource.from_contents(json.loads(file.read_text())) for file in files]
    return Registry().with_resources((schema.id() or "", schema) for schema in schemas)


def violations(value: Any, url: str, registry: Registry) -> list[str]:
    validator = jsonschema.Draft202012Validator(
        {"$ref": url}, registry=registry, format_checker=jsonschema.FormatChecker()
    )
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


def test_events_keep_the_published_schemas(events: list[Event], published: Registry) -> None:
    for event in events:
        assert violations(event, event["schemaURL"], published) == []
        for facet in facets_of(event):
            assert violations(facet, facet["_schemaURL"], published) == []


def test_the_published_schemas_find_what_is_not(events: list[Event], published: Registry) -> None:
    wrong = events[0] | {"eventType": "DONE", "eventTime": "today"}
    assert len(violations(wrong, wrong["schemaURL"], published)) == 2
    facet = next(
        facet for event in events for facet in facets_of(event) if "datasetVersion" in facet
    )
    assert violations(facet | {"datasetVersion": 3}, facet["_schemaURL"], published) == [
        "$.datasetVersion: 3 is not of type 'string'"
    ]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("run", "runId"), "no uuid"),
        (("eventType",), "DONE"),
        (("eventTime",), "today"),
        (("producer",), "no uri"),
        (("job", "name"), None),
        (("job", "facets", "sourceCodeLocation", "url"), "no uri"),
        (("outputs", 0, "facets", "version", "datasetVersion"), 3),
    ],
)
def test_the_check_finds_what_is_not(
    events: list[Event], path: tuple[Any, ...], value: object
) -> None:
    wrong = json.loads(json.dumps(events[0]))
    inside = wrong
    for step in path[:-1]:
        inside = inside[step]
    inside[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        check(wrong)


@pytest.mark.parametrize("schema", REQUIRED)
def test_what_is_checked_is_what_the_specification_requires(schema: str) -> None:
    found = definitions_of(schema)
    for name, fields in REQUIRED[schema].items():
        assert set(found[name]["required"]) == set(fields.split()), name
    if "RunEvent" in found:
        (known,) = found["RunEvent"]["properties"]["eventType"]["anyOf"]
        assert known == {"enum": list(EVENT_TYPES)}


def test_every_facet_is_of_a_version_that_was_compared(events: list[Event]) -> None:
    schemas = {facet["_schemaURL"].partition("#")[0] for e in events for facet in facets_of(e)}
    compared = {SPECIFICATION + schema for schema in REQUIRED if schema.startswith("facets/")}
    assert schemas == compared


def test_every_run_starts_and_completes_with_what_went_in_and_out(events: list[Event]) -> None:
    runs = defaultdict(list)
    for event in events:
        runs[event["job"]["name"], event["run"]["runId"]].append(event)
    assert sorted(job for job, _ in runs) == [
        "small.ingest",
        "small.release",
        "small.score",
        "small.score",
        "small.split",
        "small.train",
    ]
    flows = defaultdict(list)
    for (job, _), (start, end) in runs.items():
        assert (start["eventType"], end["eventType"]) == ("START", "COMPLETE")
        assert start["eventTime"] <= end["eventTime"]
        sides = ([d["name"].rpartition("/")[2] for d in end[key]] for key in ("inputs", "outputs"))
        flows[job].append(tuple(sides))
    model = "small"
    assert flows["small.ingest"] == [(["small.csv"], ["accepted", "rejected"])]
    assert flows["small.split"] == [(["accepted"], ["train", "validation", "holdout"])]
    assert flows["small.train"] == [(["train", "validation", "holdout"], [model])]
    assert flows["small.release"] == [([model], ["small@champion"])]
    assert sorted(flows["small.score"]) == [
        (["accepted", model], ["predictions"]),
        (["holdout", model], ["predictions"]),
    ]


def test_facets(lived: Lived, events: list[Event]) -> None:
    train = next(e for e in events if e["job"]["name"] == "small.train")
    part, model = train["inputs"][0], train["outputs"][0]
    assert part["facets"]["version"]["datasetVersion"] == "0"
    names = [field["name"] for field in part["facets"]["schema"]["fields"]]
    assert names == ["customer", "age", "visits", "city", "bought"]
    metrics = part["inputFacets"]["dataQualityMetrics"]
    assert metrics["rowCount"] == lived.made.split.train.rows
    missing = {name: column["nullCount"] for name, column in metrics["columnMetrics"].items()}
    assert missing == {}, "a part holds row numbers: its values are counted in no log"
    split = next(e for e in events if e["job"]["name"] == "small.split")
    columns = split["inputs"][0]["inputFacets"]["dataQualityMetrics"]["columnMetrics"]
    missing = {name: column["nullCount"] for name, column in columns.items()}
    assert missing == read_version(lived.made.ingested.dataset).isna().sum().to_dict()
    promises = [
        (one["column"], one["assertion"], one["success"])
        for one in part["inputFacets"]["dataQualityAssertions"]["assertions"]
        if "column" in one
    ]
    assert ("visits", "minimum 0.0", True) in promises
    assert ("customer", "not_null", True) in promises
    assert ("age", "not_null", True) not in promises
    assert model["facets"]["version"]["datasetVersion"] == "1"
    assert model["facets"]["tags"]["tags"][0]["value"] == lived.trained.model.digest
    assert train["run"]["facets"]["parent"]["run"]["runId"] == RUN.id
    assert train["run"]["facets"]["parent"]["job"]["name"] == "small.flow.train"
    tags = {tag["key"]: tag["value"] for tag in train["run"]["facets"]["tags"]["tags"]}
    assert tags["lock"] == lived.trained.identity.lock
    code = train["job"]["facets"]["sourceCodeLocation"]
    assert code["url"].endswith(lived.trained.identity.code)


def test_told_again_it_is_the_same_run(lived: Lived, events: list[Event]) -> None:
    assert as_json(told(lived, "accepted")) == events


def test_to_a_file_that_grows(lived: Lived, events: list[Event], tmp_path: Path) -> None:
    file = tmp_path / "events.ndjson"
    file.write_text("no event\n{}\n")
    every = told(lived, "model:1")
    sent = [send(some, str(file)) for some in (every[:4], told(lived, "accepted"), every)]
    lines = [json.loads(line) for line in file.read_text().splitlines()[2:]]
    assert sent == [4, len(every) - 4, 0]
    assert lines == as_json(every)
    assert {line["job"]["name"] for line in lines} == {e["job"]["name"] for e in events}


@pytest.mark.parametrize("path", ["", "/own/path"])
def test_to_a_service(
    lived: Lived, service: Service, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENLINEAGE_API_KEY", "secret")
    sent = told(lived, "train")
    send(sent, f"{service.url}{path}")
    assert [body for _, _, body in service.got] == as_json(sent)
    assert {where for where, _, _ in service.got} == {path or "/api/v1/lineage"}
    assert {key for _, key, _ in service.got} == {"Bearer secret"}


def test_a_service_that_refuses(lived: Lived, service: Service) -> None:
    service.status = 400
    with pytest.raises(BackendError, match="OpenLineage events: 400"):
        send(told(lived, "train"), service.url)


def test_a_flow_run_tells_what_it_made(lived: Lived, service: Service) -> None:
    settings = lived.settings.model_copy(update={"openlineage": service.url})
    tell_run(lived.project, settings, "train", RUN, TIMES, "COMPLETE")
    got = [body for _, _, body in service.got]
    for event in got:
        check(event)
    jobs = [(e["job"]["name"], e["eventType"]) for e in got]
    assert jobs[0] == ("small.flow.train", "START")
    assert jobs[-1] == ("small.flow.train", "COMPLETE")
    assert {job for job, _ in jobs[1:-1]} == {"small.ingest", "small.split", "small.train"}
    assert {e["run"]["runId"] for e in (got[0], got[-1])} == {RUN.id}


def test_a_service_that_is_down_is_a_warning(
    lived: Lived, caplog: pytest.LogCaptureFixture
) -> None:
    with Service() as gone:
        url = gone.url
    settings = lived.settings.model_copy(update={"openlineage": url})
    tell_run(lived.project, settings, "train", RUN, TIMES, "FAIL")
    assert "OpenLineage events of train-small were not sent" in caplog.text


@pytest.mark.parametrize(
    ("uri", "named"),
    [
        ("/data/a.csv", ("file", "/data/a.csv")),
        ("file:///data/a.csv", ("file", "/data/a.csv")),
        ("s3://bucket/folder/a.csv", ("s3://bucket", "folder/a.csv")),
        ("https://host/a.csv", ("https://host", "a.csv")),
    ],
)
def test_names_of_datasets(uri: str, named: tuple[str, str]) -> None:
    assert place_of(uri) == named
