"""Dockerfile, compose.yaml, Kubernetes manifests, Prometheus' rules: what shows without an engine.

Each is held against the schemas of its makers. Whether an image builds is not tried.
"""

import inspect
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator

from deployments.scrape_config import Targets, scrape_config
from deployments.stack import Stack
from lifecycle.environments import PREFIX
from lifecycle.redaction import PLAIN, SECRET_NAME
from lifecycle.runtime.servers import mlflow_users
from lifecycle.serving.metrics import BUCKETS, CANDIDATE, COUNTERS, IN_FLIGHT, INFO, LOST, SECONDS
from lifecycle.settings import OTHER_VARIABLES, Settings

ROOT = Path(__file__).parents[2]
DEPLOYMENTS = ROOT / "deployments"
KUBERNETES = DEPLOYMENTS / "kubernetes"
START = DEPLOYMENTS / "start.sh"
ENVIRONMENTS = ("staging", "prod")
SECRETS = {"lifecycle-logins", "lifecycle-bucket", "lifecycle-ray", "lifecycle-metrics"}
OPERATORS = {
    "RayCluster": "kuberay/ray.io_rayclusters.yaml",
    "ServiceMonitor": "prometheus-operator/monitoring.coreos.com_servicemonitors.yaml",
    "PodMonitor": "prometheus-operator/monitoring.coreos.com_podmonitors.yaml",
    "PrometheusRule": "prometheus-operator/monitoring.coreos.com_prometheusrules.yaml",
}
"""Kinds that are no part of Kubernetes, and the definitions of those who made them."""
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOYMENTS / "compose.yaml").read_text())
ALERTS: dict[str, Any] = yaml.safe_load((DEPLOYMENTS / "prometheus" / "alerts.yml").read_text())


def program(name: str) -> str:
    """A program of this environment, or of the machine.

    Skips the test where the machine has none; fails in CI.
    """
    beside = Path(sys.executable).with_name(name)
    path = str(beside) if beside.exists() else shutil.which(name)
    if path is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} must be there in CI")
        pytest.skip(f"{name} is not installed")
    return path


def check(*command: str, folder: Path = ROOT) -> str:
    """Run a validator; what it prints."""
    done = subprocess.run(
        [program(command[0]), *command[1:]], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def manifests() -> Callable[[str], list[dict[str, Any]]]:
    """What an overlay gives a cluster."""

    def render(env: str) -> list[dict[str, Any]]:
        text = check("kubectl", "kustomize", str(KUBERNETES / env))
        return list(yaml.safe_load_all(text))

    return render


def pods(manifests: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Specifications of pods, with the name of who makes them."""
    for manifest in manifests:
        spec, name = manifest.get("spec", {}), manifest["metadata"]["name"]
        if manifest["kind"] == "RayCluster":
            yield "head", spec["headGroupSpec"]["template"]["spec"]
            for group in spec["workerGroupSpecs"]:
                yield group["groupName"], group["template"]["spec"]
        elif "template" in spec:
            yield name, spec["template"]["spec"]


def variables(manifests: list[dict[str, Any]]) -> dict[str, str]:
    found: dict[str, str] = next(
        m["data"]
        for m in manifests
        if m["kind"] == "ConfigMap" and m["metadata"]["name"].startswith("lifecycle-")
    )
    return found


def test_the_dockerfile_has_no_finding() -> None:
    check("hadolint", "deployments/Dockerfile")
    text = (DEPLOYMENTS / "Dockerfile").read_text()
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert len(bases) == 2
    assert all(re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", base) for base in bases)
    assert text.count("--require-hashes") == 3
    assert text.rindex("\nUSER 10001:10001") > text.rindex("\nCOPY")


def test_what_the_image_is_built_from_is_there_and_let_in() -> None:
    lines = (DEPLOYMENTS / "Dockerfile.dockerignore").read_text().splitlines()
    allowed = [line[1:] for line in lines if line.startswith("!")]
    assert [name for name in allowed if not list(ROOT.glob(name))] == []
    text = (DEPLOYMENTS / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (?!--from)(?:--\S+ )*(.+) \S+$", text, re.MULTILINE)
    names = {name for line in copied for name in line.split()} - {"."}
    assert names <= set(allowed), "copied, but kept out by .dockerignore"


def test_compose_is_what_its_specification_allows() -> None:
    check("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "deployments/compose.yaml")


def test_compose_starts_what_make_stack_starts() -> None:
    per_environment = {f"{part}-{env}" for env in ENVIRONMENTS for part in ("mlflow", "ray")}
    nodes = {f"ray-{env}-node" for env in ENVIRONMENTS}
    shared = {"postgresql", "s3", "buckets", "prefect", "prometheus"}
    assert set(COMPOSE["services"]) == shared | per_environment | nodes
    for name, service in COMPOSE["services"].items():
        ports = service.get("ports", [])
        assert all(port.startswith("127.0.0.1:") for port in ports), name
        if service["image"] == "lifecycle-flows":
            assert service["command"][0] in roles(), name
        assert re.search(r":.*\d", service["image"]) or service["image"] == "lifecycle-flows"


@pytest.mark.parametrize("service", COMPOSE["services"])
def test_no_secret_and_no_unknown_variable_in_compose(service: str) -> None:
    environment = COMPOSE["services"][service].get("environment", {})
    assert_settings(environment)
    for name, value in environment.items():
        if SECRET_NAME.search(name):
            assert re.fullmatch(r"\$\{[A-Z_]+:\?.*\}", value), f"{name} must be a variable"


def assert_settings(environment: dict[str, str]) -> None:
    """What begins with our prefix is a setting, of this environment or of another one."""
    names = {*map(str.upper, Settings.model_fields), *OTHER_VARIABLES}
    for name in environment:
        if name.startswith(PREFIX) and "__" not in name:
            assert name.removeprefix(PREFIX) in names, name


def roles() -> set[str]:
    """The words that start.sh takes."""
    labels = re.findall(r"^([a-z0-9 |]+)\)", START.read_text(), re.MULTILINE)
    return {role for label in labels for role in label.split(" | ")}


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., str]:
    """Start a role with programs that only print what they were called with."""
    programs = {name: f'echo "{name} $*"; env | sort >&2' for name in ("prefect", "mlflow", "ray")}
    programs["lifecycle"] = '[ "$1" = front-env ] && echo export FRONT=1 || echo "$*"'
    for name, line in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)

    def run(*words: str, status: int = 0, **variables: str) -> str:
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
        environment["LIFECYCLE_HOME"] = str(tmp_path / "home")
        done = subprocess.run(
            ["bash", str(START), *words],
            env=environment | variables,
            capture_output=True,
            text=True,
            timeout=20,
        )
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    return run


DATABASE = {"PGHOST": "db", "PGUSER": "u", "PGPASSWORD": "p"}
RAY = {"LIFECYCLE_ENV": "staging", "RAY_AUTH_TOKEN": "t"}


def test_servers_start_with_authentication(start: Callable[..., str], tmp_path: Path) -> None:
    said = start("prefect", **DATABASE, PREFECT_API_AUTH_STRING="a:b")
    assert "prefect server start --host 0.0.0.0 --port 4200" in said
    assert "PREFECT_SERVER_API_AUTH_STRING=a:b" in said
    assert "PREFECT_SERVER_UI_API_URL=/api" in said, "a browser does not know the name prefect"
    assert "CONNECTION_URL=postgresql+asyncpg://u:p@db:5432/prefect" in said
    login = {"MLFLOW_TRACKING_USERNAME": "u", "MLFLOW_TRACKING_PASSWORD": "p" * 12}
    login |= {"MLFLOW_FLASK_SERVER_SECRET_KEY": "k", "MLFLOW_ARTIFACTS": "s3://m/x"}
    said = start("mlflow", **DATABASE, **login, MLFLOW_DATABASE="mlflow_prod")
    assert "--app-name basic-auth" in said
    assert "--backend-store-uri postgresql+psycopg://u:p@db:5432/mlflow_prod " in said
    file = Path(re.findall(r"MLFLOW_AUTH_CONFIG_PATH=(.*)", said)[0])
    database = "postgresql+psycopg://u:p@db:5432/mlflow_prod_users"
    assert file.read_text() == mlflow_users(database, "u", "p" * 12)
    assert file.stat().st_mode & 0o077 == 0


def test_servers_have_the_options_that_they_have_in_make_stack() -> None:
    words = r"(?<![\w-])--[a-z]+(?:-[a-z]+)*|\b(?:PREFECT|MLFLOW)_[A-Z_]+"
    for server in (Stack._prefect, Stack._mlflow):
        mine = set(re.findall(words, inspect.getsource(server)))
        mine -= {"PREFECT_HOME", "PREFECT_API_URL"}  # of the image, and of clients
        assert mine
        assert mine <= set(re.findall(words, START.read_text()))


def test_a_node_runs_the_command_of_kuberay_or_its_own(start: Callable[..., str]) -> None:
    said = start("node", **RAY, RAY_HEAD="ray-staging")
    assert "ray start --address ray-staging:6379 --num-cpus 2" in said
    assert "RAY_AUTH_MODE=token" in said
    assert "FRONT=1" in said
    command = """ray start --block --resources='{"a": 1}' --address=head:6379"""
    assert 'ray start --block --resources={"a": 1}' in start(
        "node", **RAY, KUBERAY_GEN_RAY_START_CMD=command
    )


def test_a_head_ends_with_whichever_ends_first(start: Callable[..., str], tmp_path: Path) -> None:
    said = start("head", **RAY, status=1)
    assert "ray start --head --port 6379 --num-cpus 0" in said or "prefect worker start" in said
    key = tmp_path / "home" / "prometheus.key"
    assert re.fullmatch(r"keys add prometheus-\d+\n", key.read_text())
    assert key.stat().st_mode & 0o077 == 0
    key.write_text("mine")
    start("head", **RAY, status=1)
    assert key.read_text() == "mine"


def test_a_role_without_its_secrets_does_not_start(start: Callable[..., str]) -> None:
    assert "PREFECT_API_AUTH_STRING" in start("prefect", status=1)
    assert "RAY_AUTH_TOKEN" in start("head", LIFECYCLE_ENV="staging", status=1)
    assert start("echo", "as it is") == "as it is\n"
    assert start("healthy", status=1) == "", "it was started as a head, and nothing listens"


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_manifests_are_what_kubernetes_and_the_operators_take(
    env: str, manifests: Callable[[str], list[dict[str, Any]]], shared_schemas: Path
) -> None:
    kinds = set()
    for manifest in manifests(env):
        kinds.add(kind := manifest["kind"])
        if kind not in OPERATORS:
            kubernetes_validate.validate(manifest, desired_version="1.37", strict=True)
            continue
        definition = yaml.load((shared_schemas / OPERATORS[kind]).read_text(), yaml.CSafeLoader)
        assert definition["spec"]["names"]["kind"] == kind
        version = manifest["apiVersion"].rpartition("/")[2]
        schema = next(v for v in definition["spec"]["versions"] if v["name"] == version)
        errors = Draft202012Validator(closed(schema["schema"]["openAPIV3Schema"])).iter_errors(
            manifest
        )
        assert [f"{e.json_path}: {e.message[:200]}" for e in errors] == []
    assert set(OPERATORS) | {"NetworkPolicy", "PodDisruptionBudget", "StatefulSet"} <= kinds


def closed(schema: Any) -> Any:
    """A schema that takes no field it does not name: a cluster would drop it in silence."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    parts = {key: closed(part) for key, part in schema.items()}
    is_open = {"x-kubernetes-preserve-unknown-fields", "additionalProperties"} & set(schema)
    if (
        isinstance(schema.get("properties"), dict)
        and schema.get("type") == "object"
        and not is_open
    ):
        if set(schema["properties"]) >= {"apiVersion", "kind", "metadata"}:
            return parts  # metadata is Kubernetes' own
        parts["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        parts.pop("type", None)
    return parts


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_pods_are_restricted_ask_for_resources_and_hold_no_secret(
    env: str, manifests: Callable[[str], list[dict[str, Any]]]
) -> None:
    rendered = manifests(env)
    found = dict(pods(rendered))
    assert set(found) == {"postgresql", "prefect", "mlflow", "head", "nodes", "pushgateway"}
    for name, pod in found.items():
        assert pod["securityContext"]["runAsNonRoot"], name
        for container in pod["containers"]:
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, name
            assert set(container["resources"]["requests"]) == {"cpu", "memory"}, name
            assert re.search(r":v?\d", container["image"]), name
            if "lifecycle-flows" in container["image"]:
                assert container["args"][0] in roles()
            references = [s.get("secretRef") for s in container.get("envFrom", [])]
            named = [reference["name"] for reference in references if reference]
            assert set(named) <= SECRETS
            for variable in container.get("env", []):
                assert not SECRET_NAME.search(variable["name"]) or "value" not in variable
    assert not any(manifest["kind"] == "Secret" for manifest in rendered)
    assert variables(rendered)["LIFECYCLE_ENV"] == env
    assert_settings(variables(rendered))
    assert not any(SECRET_NAME.search(name) for name in set(variables(rendered)) - PLAIN)


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_pods_of_ray_have_what_nodes_without_the_home_of_the_flow_need(
    env: str, manifests: Callable[[str], list[dict[str, Any]]]
) -> None:
    rendered = manifests(env)
    settings = variables(rendered)
    lake, checkpoints = settings["LIFECYCLE_LAKE_URI"], settings["LIFECYCLE_RAY_STORAGE"]
    assert checkpoints.startswith(f"s3://lake-{env}/")
    assert not f"{checkpoints}/".startswith(f"{lake}/"), "checkpoints are no tables"
    claims = {m["metadata"]["name"]: m for m in rendered if m["kind"] == "PersistentVolumeClaim"}
    folder = str(Path(settings["LIFECYCLE_SERVE_KEYS"]).parent)
    homes = set()
    for name, pod in pods(rendered):
        if name not in {"head", "nodes"}:
            continue
        (container,) = pod["containers"]
        reference = {"name": "lifecycle-logins", "key": "LIFECYCLE_PII_KEY"}
        secret = {"name": "LIFECYCLE_PII_KEY", "valueFrom": {"secretKeyRef": reference}}
        assert secret in container["env"], name
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        keys = mounts[folder]
        assert keys.get("readOnly", False) == (name != "head"), "releases run on the head"
        claim = volumes[keys["name"]]["persistentVolumeClaim"]["claimName"]
        assert claims[claim]["spec"]["accessModes"] == ["ReadWriteMany"]
        homes.add(str(volumes[mounts["/srv/lifecycle"]["name"]]))
    assert len(homes) == 2, "each has a home of its own"


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_flows_push_to_the_gateway_that_prometheus_asks(
    env: str, manifests: Callable[[str], list[dict[str, Any]]]
) -> None:
    rendered = manifests(env)
    named = {(m["kind"], m["metadata"]["name"]): m for m in rendered}
    service, policy = named["Service", "pushgateway"], named["NetworkPolicy", "pushgateway"]
    (port,) = service["spec"]["ports"]
    url = urlsplit(variables(rendered)["LIFECYCLE_PUSHGATEWAY"])
    assert (url.hostname, url.port) == ("pushgateway", port["port"])
    pod = dict(pods(rendered))["pushgateway"]
    assert pod["containers"][0]["ports"] == [{"name": port["name"], "containerPort": url.port}]
    assert policy["spec"]["ingress"][0]["ports"] == [{"port": url.port}]
    monitor = named["ServiceMonitor", "pushgateway"]["spec"]
    (target,) = monitor["endpoints"]
    assert (target["port"], target["honorLabels"]) == (port["name"], True)
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()


def test_prometheus_takes_its_files_and_alerts_fire_when_they_should() -> None:
    folder = DEPLOYMENTS / "prometheus"
    check("promtool", "check", "config", "--syntax-only", "prometheus.yml", folder=folder)
    for rules in ("alerts", "monitoring"):
        check("promtool", "check", "rules", f"{rules}.yml", folder=folder)
        check("promtool", "test", "rules", f"{rules}.test.yml", folder=folder)


def test_each_alert_fires_in_a_test_of_its_file() -> None:
    for rules in ("alerts", "monitoring"):
        folder = DEPLOYMENTS / "prometheus"
        groups = yaml.safe_load((folder / f"{rules}.yml").read_text())["groups"]
        tests = yaml.safe_load((folder / f"{rules}.test.yml").read_text())["tests"]
        samples = [
            sample["labels"]
            for test in tests
            for query in test["promql_expr_test"]
            for sample in query["exp_samples"]
        ]
        fired = set(re.findall(r'alertname="(\w+)"', "".join(samples)))
        assert fired == {rule["alert"] for group in groups for rule in group["rules"]}


def test_make_stack_scrapes_by_the_same_description(tmp_path: Path) -> None:
    targets = {"prod": Targets("127.0.0.1:1", tmp_path / "key", ["127.0.0.1:2", "127.0.0.1:3"])}
    file = tmp_path / "prometheus.yml"
    file.write_text(scrape_config(targets, "5s"))
    check("promtool", "check", "config", "--syntax-only", str(file))
    config = yaml.safe_load(file.read_text())
    assert [job["job_name"] for job in config["scrape_configs"]] == ["endpoint-prod", "ray-prod"]
    found = [job["static_configs"][0]["targets"] for job in config["scrape_configs"]]
    assert found == [["127.0.0.1:1"], ["127.0.0.1:2", "127.0.0.1:3"]]
    assert all(Path(rules).is_file() for rules in config["rule_files"])
    assert "/run/lifecycle" not in file.read_text()
    text = scrape_config(targets, "5s", "127.0.0.1:4")
    job = yaml.safe_load(text)["scrape_configs"][-1]
    assert job["job_name"] == "pushgateway"
    assert (job["static_configs"], job["honor_labels"]) == ([{"targets": ["127.0.0.1:4"]}], True)
    file.write_text(text)
    check("promtool", "check", "config", "--syntax-only", str(file))


def test_collectors_of_logs_read_where_lines_are_and_send_what_they_read() -> None:
    """What shows without the programs, which no registry has."""
    places = {"*.log", "worker-*.err"}
    filebeat = yaml.safe_load((DEPLOYMENTS / "logging" / "filebeat.yml").read_text())
    (source,) = filebeat["filebeat.inputs"]
    assert {Path(path).name for path in source["paths"]} == places
    assert source["parsers"][0]["ndjson"]["expand_keys"]
    vector = yaml.safe_load((DEPLOYMENTS / "logging" / "vector.yaml").read_text())
    assert {Path(path).name for path in vector["sources"]["files"]["include"]} == places
    assert vector["transforms"]["ecs"]["inputs"] == ["files"]
    assert vector["sinks"]["elasticsearch"]["inputs"] == ["ecs"]


def test_alerts_are_the_same_in_kubernetes() -> None:
    documents = yaml.safe_load_all((KUBERNETES / "base" / "monitoring.yaml").read_text())
    rule = next(d for d in documents if d["kind"] == "PrometheusRule")
    others = yaml.safe_load((DEPLOYMENTS / "prometheus" / "monitoring.yml").read_text())
    assert rule["spec"]["groups"] == ALERTS["groups"] + others["groups"]


def test_alerts_ask_for_metrics_that_the_endpoint_has() -> None:
    exported = {f"{name}_total" for name in COUNTERS} | {LOST, IN_FLIGHT, INFO, f"{SECONDS}_bucket"}
    rules = [rule for group in ALERTS["groups"] for rule in group["rules"]]
    asked = {m for rule in rules for m in re.findall(r"lifecycle_\w+", rule["expr"])}
    assert f"{CANDIDATE}_total" in asked
    assert asked <= exported
    slow = next(rule for rule in rules if rule["alert"] == "EndpointSlow")
    assert float(slow["expr"].rpartition(">")[2]) in BUCKETS, "between bounds it is a guess"
