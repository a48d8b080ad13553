"""Secrets to plant in every variable that may hold one, and the search for them."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

SECRETS = {
    "LIFECYCLE_PII_KEY": "planted-pii-key",
    "LIFECYCLE_DATABASES": "postgresql://u:planted-db1@h/a mysql://v:planted%2Fdb2@h/b",
    "LIFECYCLE_MLFLOW_TRACKING_URI": "http://me:planted-mlflow@127.0.0.1:9",
    "LIFECYCLE_OPENLINEAGE": "http://me:planted-lineage@127.0.0.1:9/api",
    "LIFECYCLE_PUSHGATEWAY": "http://me:planted-gateway@127.0.0.1:9",
    "LIFECYCLE_LAKE_URI": "s3://key:planted-lake@bucket/tables",
    "LIFECYCLE_RAY_ADDRESS": "ray://u:planted-ray@127.0.0.1:9",
    "MLFLOW_TRACKING_PASSWORD": "planted-mlflow-password",
    "MLFLOW_TRACKING_TOKEN": "planted-mlflow-token",
    "OPENLINEAGE_API_KEY": "planted-api-key",
    "PREFECT_API_AUTH_STRING": "admin:planted-auth",
    "PREFECT_API_KEY": "planted-prefect-key",
    "AWS_ACCESS_KEY_ID": "planted-aws-id",
    "AWS_SECRET_ACCESS_KEY": "planted/aws+secret",
    "AWS_SESSION_TOKEN": "planted-session",
    "WAREHOUSE_URL": "snowflake://me:planted-warehouse@account/db?password=planted-query",
    "SOURCE_CREDENTIALS": '{"secret": "planted-source"}',
    "RAY_AUTH_TOKEN": "planted-ray-token",
}
ELSEWHERE = {"LIFECYCLE_MLFLOW_TRACKING_URI", "LIFECYCLE_OPENLINEAGE", "LIFECYCLE_LAKE_URI"}
ELSEWHERE |= {"LIFECYCLE_RAY_ADDRESS", "RAY_AUTH_TOKEN"}
"""Variables that name services which are not there."""
PLANTED = {name: value for name, value in SECRETS.items() if name not in ELSEWHERE} | {
    "PREFECT_SERVER_API_AUTH_STRING": SECRETS["PREFECT_API_AUTH_STRING"]
}
AUTH = base64.b64encode(SECRETS["PREFECT_API_AUTH_STRING"].encode())


def planted_in(home: Path) -> Iterator[str]:
    """Files with a secret in them, tables also read as such."""
    for path in home.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            if path.suffix == ".parquet":
                content += str(pq.read_table(path).to_pylist()).encode()
            if b"planted" in content or AUTH in content:
                yield str(path.relative_to(home))
