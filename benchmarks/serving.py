"""The endpoint beside the servers people would use instead, all of the same booster.

wrk asks them in turn, one after the other in each round, and compares every answer with the one
expected. 28 numeric features, 200 trees of depth 6; one row a request unless it says otherwise.
"""

import json
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import orjson
import xgboost

from benchmarks import large
from benchmarks.result import Result, at_least, information, limit, ratio
from benchmarks.served import Server, server
from benchmarks.wrk import SECONDS, Load, Timed, wrk
from lifecycle.features.encode import FeatureSchema
from lifecycle.project.loader import load_project
from lifecycle.records import ModelVersion
from lifecycle.runtime.servers import free_port
from lifecycle.training.bundle import BundleSchema, write_bundle
from lifecycle.training.trainers.booster import XGBoostModel

TREES = 200
ROWS = 20_000
MANY = 1000
REQUESTS = 100_000
REDEPLOYS = 50
CLIENTS = 16
PATHS = {"ours": "/large/predict", "noop": "/noop", "ray_default": "/", "fastapi": "/predict"}


def measure(rounds: int) -> Iterator[Result]:
    """Interleaved rounds; needs wrk of Debian's packages."""
    assert shutil.which("wrk"), "install wrk: apt-get install wrk"
    with TemporaryDirectory(prefix="serving-") as name:
        folder = Path(name)
        booster, rows = prepare(folder)
        load = _records(folder, booster, rows[:1], "one.json")
        yield from _starts(folder, load, rounds)
        with ExitStack() as stack:
            servers = _servers(folder, load, stack)
            yield from _speed(servers, load, rounds)
            yield from _steady(servers["ours"], load, rounds)
            yield from _many(servers["ours"], folder, booster, rows[:MANY], rounds)


def prepare(folder: Path) -> tuple[xgboost.Booster, np.ndarray]:
    """Data, project, booster, bundle and MLflow model in a folder; the booster and all rows."""
    project = load_project(large.write(folder, ROWS))
    data = large.frame(ROWS)
    inputs = data.drop(columns=large.TARGET)
    rows = xgboost.QuantileDMatrix(inputs, label=data[large.TARGET])
    booster = xgboost.train(large.PARAMETERS, rows, TREES)
    booster.save_model(folder / "model.ubj")
    names = tuple(inputs.columns)
    schema = BundleSchema(
        project=project.name,
        task="binary",
        target=large.TARGET,
        positive=1,
        threshold=0.5,
        inputs={name: project.contract.columns[name] for name in names},
        features=FeatureSchema(names=names, kinds=("q",) * len(names), levels={}),
        hook=None,
        hook_digest="",
    )
    bundle = write_bundle(XGBoostModel(booster), schema, "identity", folder / "bundles")
    model = ModelVersion(
        name=project.name,
        version=1,
        uri=f"models:/{project.name}/1",
        run_id="",
        digest=bundle.digest,
        identity="identity",
    )
    (folder / "model.json").write_text(model.model_dump_json())
    loaded = xgboost.Booster({"nthread": 1})
    loaded.load_model(folder / "model.ubj")
    return loaded, inputs.to_numpy()


def _records(folder: Path, booster: xgboost.Booster, rows: np.ndarray, name: str) -> Load:
    names = booster.feature_names or []
    records = [dict(zip(names, row, strict=True)) for row in rows.tolist()]
    body = folder / name
    body.write_bytes(orjson.dumps({"records": records}))
    predicted = float(booster.inplace_predict(rows[:1].astype("f4"))[0])
    # the first digits: engines may differ beyond the sixth
    return Load(body, f"{predicted:.8f}"[:7], {"Content-Type": "application/json"})


def _tensor(folder: Path, booster: xgboost.Booster, rows: np.ndarray) -> Load:
    """The rows as one binary tensor of the Open Inference Protocol."""
    content = rows.astype("<f8").tobytes()
    parameters = {"binary_data_size": len(content)}
    tensor = {"name": "rows", "datatype": "FP64", "shape": list(rows.shape)}
    head = json.dumps({"inputs": [tensor | {"parameters": parameters}]}).encode()
    body = folder / "tensor.bin"
    body.write_bytes(head + content)
    predicted = float(booster.inplace_predict(rows[:1].astype("f4"))[0])
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(head)),
    }
    return Load(body, f"{predicted:.8f}"[:7], headers)


def _servers(folder: Path, load: Load, stack: ExitStack) -> dict[str, Server]:
    body = load.body.read_bytes()
    (folder / "quiet").touch()
    servers: dict[str, Server] = {}
    for kind, path in PATHS.items():
        servers[kind] = server(kind, folder, free_port(), path, body)
        stack.callback(servers[kind].stop)
    servers["mlflow"] = _mlflow(folder, load)
    stack.callback(servers["mlflow"].stop)
    return servers


def _mlflow(folder: Path, load: Load) -> Server:
    """`mlflow models serve` of the same bundle, registered as ours are."""
    import mlflow

    model = ModelVersion.model_validate_json((folder / "model.json").read_text())
    path = folder / "pyfunc"
    mlflow.pyfunc.save_model(
        path=path,
        loader_module="lifecycle.training.pyfunc",
        data_path=folder / "bundles" / model.digest,
        pip_requirements=["xgboost"],
    )
    body = orjson.dumps({"dataframe_records": orjson.loads(load.body.read_bytes())["records"]})
    (folder / "mlflow.json").write_bytes(body)
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(path)]
    command += ["-p", str(port), "-h", "127.0.0.1", "--env-manager", "local"]
    return Server(command, f"http://127.0.0.1:{port}/invocations", body)


def _speed(servers: dict[str, Server], load: Load, rounds: int) -> Iterator[Result]:
    loads = {name: load for name in servers}
    loads["mlflow"] = load._replace(body=load.body.with_name("mlflow.json"))
    loads["noop"] = load._replace(expected="0.5")
    urls = {name: each.url for name, each in servers.items()}
    urls["quiet"] = urls["ours"].replace("/large/", "/quiet/")
    loads["quiet"] = load
    many: dict[str, list[Timed]] = {name: [] for name in urls}
    single: dict[str, list[Timed]] = {name: [] for name in urls}
    for number in range(-1, rounds):
        for name, url in urls.items():
            crowd, single_client = wrk(url, loads[name], CLIENTS), wrk(url, loads[name], 1)
            if number >= 0:  # the first round warms all up
                many[name].append(crowd)
                single[name].append(single_client)

    def rates(name: str) -> list[float]:
        return [result.rate for result in many[name]]

    for name, bar, title in [
        ("mlflow", 5.0, "mlflow models serve"),
        ("ray_default", 10.0, "Ray Serve's defaults"),
        ("noop", 0.9, "a no-op on our Serve"),
    ]:
        values = [a / b for a, b in zip(rates("ours"), rates(name), strict=True)]
        detail = (
            f"{CLIENTS} clients: {statistics.median(rates('ours')):.0f} requests/s, "
            f"{title} {statistics.median(rates(name)):.0f}"
        )
        yield at_least(f"serving: throughput against {title}", values, "×", bar, detail)
    own, bare = ([t.p50 for t in single[name]] for name in ("ours", "fastapi"))
    yield ratio("serving: p50 of 1 client against FastAPI", own, bare, 0.8, "ms")
    ratios = [a / b for a, b in zip(rates("ours"), rates("quiet"), strict=True)]
    yield at_least(
        "serving: throughput with the prediction log", ratios, "×", 0.95, "of that without"
    )
    for name in ("ours", "noop", "fastapi", "mlflow", "ray_default"):
        yield information(
            f"serving: {name}, {CLIENTS} clients",
            rates(name),
            "requests/s",
            f"1 client: {statistics.median(t.rate for t in single[name]):.0f} requests/s, "
            f"p50 {statistics.median(t.p50 for t in single[name]):.2f} ms",
        )


def _steady(endpoint: Server, load: Load, rounds: int) -> Iterator[Result]:
    """The tail at half of what it can take."""
    most = wrk(endpoint.url, load, CLIENTS)
    delay = round(1000 * CLIENTS / (most.rate / 2) - most.p50 / 2)
    measurements = [wrk(endpoint.url, load, CLIENTS, delay=delay) for _ in range(rounds)]
    detail = f"{statistics.median(t.rate for t in measurements):.0f} of {most.rate:.0f} requests/s"
    yield limit(
        "serving: p99/p50 at half load", [t.p99 / t.p50 for t in measurements], "×", 10.0, detail
    )


def _many(
    endpoint: Server, folder: Path, booster: xgboost.Booster, rows: np.ndarray, rounds: int
) -> Iterator[Result]:
    matrix = rows.astype("f4")
    url = endpoint.url.replace("/predict", "/v2/models/large/infer")
    for title, where, sent in [
        ("binary tensor", url, _tensor(folder, booster, rows)),
        ("JSON records", endpoint.url, _records(folder, booster, rows, "many.json")),
    ]:
        values, details = [], []
        for _ in range(rounds):
            started, count = time.perf_counter(), 0
            while time.perf_counter() - started < 1:
                booster.inplace_predict(matrix)
                count += 1
            bare = count / (time.perf_counter() - started)
            served = wrk(where, sent, 2)
            values.append(served.rate / bare)
            details.append((served.rate, bare))
        rate, bare = details[len(details) // 2]
        detail = f"{rate * MANY:.0f} rows/s, the booster on one thread {bare * MANY:.0f}"
        name = f"serving: {MANY} rows a request, {title}"
        yield at_least(name, values, "×", 0.8, detail)


def _starts(folder: Path, load: Load, rounds: int) -> Iterator[Result]:
    """Start to the first answer, and memory of all processes, against the smallest Serve."""
    body = load.body.read_bytes()
    seconds: dict[str, list[float]] = {"ours": [], "minimal": []}
    memory: dict[str, list[float]] = {"ours": [], "minimal": []}
    for _ in range(min(rounds, 3)):
        for kind, path in (("ours", "/large/predict"), ("minimal", "/")):
            started = server(kind, folder, free_port(), path, body)
            seconds[kind].append(started.seconds)
            time.sleep(2)
            memory[kind].append(started.memory())
            started.stop()
    detail = "s from the process's start to the first correct answer"
    yield ratio("serving: start", seconds["ours"], seconds["minimal"], 1.2, detail)
    detail = "MB, proportional set size of the whole tree"
    yield ratio("serving: memory", memory["ours"], memory["minimal"], 1.2, detail)


def measure_memory(_rounds: int) -> Iterator[Result]:
    """Measure whether memory grows with requests and redeployments, in one long round."""
    with TemporaryDirectory(prefix="serving-") as name:
        folder = Path(name)
        booster, rows = prepare(folder)
        yield from _flat(folder, _records(folder, booster, rows[:1], "one.json"))


def _flat(folder: Path, load: Load) -> Iterator[Result]:
    endpoint = server("ours", folder, free_port(), "/large/predict", load.body.read_bytes())
    _ask(endpoint, load, 20_000)  # buffers and the first commits of the log
    before = endpoint.memory()
    _ask(endpoint, load, REQUESTS)
    time.sleep(3)
    memory_before = endpoint.memory()
    detail = f"{before:.0f} MB before, {memory_before:.0f} MB after {REQUESTS:,} requests"
    yield limit("serving: memory after requests", [memory_before / before], "×", 1.1, detail)
    for version in range(2, REDEPLOYS + 2):
        endpoint.redeploy(version)
    time.sleep(10)  # the last replica but one drains
    last = endpoint.memory()
    detail = f"{memory_before:.0f} MB before, {last:.0f} MB after {REDEPLOYS} redeployments"
    yield limit("serving: memory after redeployments", [last / memory_before], "×", 1.1, detail)
    endpoint.stop()


def _ask(endpoint: Server, load: Load, requests: int) -> None:
    total = 0.0
    while total < requests:
        total += wrk(endpoint.url, load, CLIENTS).rate * SECONDS
