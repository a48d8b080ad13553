"""Databases: what is sent to them, and what of their answers a later run sees."""

import base64
import importlib
import json
import sqlite3
import sys
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import pyarrow as pa
import pytest
import sqlalchemy as sa

from lifecycle.data.preview import rehearse
from lifecycle.data.sources import open_source
from lifecycle.data.sources.credentials import Credentials
from lifecycle.data.sources.sql import Sql, adbc_options
from lifecycle.errors import ContractError, SourceError
from lifecycle.project import ColumnSpec, Project, SourceSpec
from tests.support.makers import postgres, project_of, sqlite
from tests.support.places import Rows, SqlPlace, rows

BASES = {
    "sqlite": sqlite,
    "adbc": postgres(),
    "sqlalchemy": postgres(options={"pool_pre_ping": True}),
}


@pytest.fixture(params=BASES)
def base(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SqlPlace]:
    place = BASES[request.param](request, tmp_path, monkeypatch)
    assert isinstance(place, SqlPlace)
    yield place
    place.clear()


def read(project: Project, after: object = None) -> Rows:
    batches = open_source(project).batches(project.contract.columns, after=after)
    return [row for batch in batches for row in batch.to_pylist()]


def spec_of(base: SqlPlace, column: str, lateness: float = 0.0, **more: Any) -> dict[str, Any]:
    incremental = {"by": "watermark", "column": column, "lateness": lateness}
    return {**base.spec, "incremental": incremental, **more}


@pytest.mark.parametrize(("column", "after"), [("id", 6), ("seen", datetime(2024, 3, 1, 18, 30))])
def test_only_what_is_later(base: SqlPlace, tmp_path: Path, column: str, after: object) -> None:
    base.put(rows(12))
    project = project_of(tmp_path, spec_of(base, column))
    assert read(project, after) == [row for row in rows(12)[7:] if row[column] is not None]
    assert read(project, 99 if column == "id" else datetime(2030, 1, 1)) == []


def test_later_rows_of_a_query(base: SqlPlace, tmp_path: Path) -> None:
    """With what SQLAlchemy and drivers would take for parameters, and a semicolon."""
    base.put(rows(12))
    query = "SELECT *, 'at 10:45 :no %s 5% \\' AS more FROM visits WHERE code LIKE '0%' ;"
    for spec in (base.spec, spec_of(base, "id")):
        spec = {**spec, "query": query}
        del spec["table"]
        found = read(project_of(tmp_path, spec, key=[]), 6 if "incremental" in spec else None)
        assert {row["more"] for row in found} == {"at 10:45 :no %s 5% \\"}
        assert len(found) == (5 if "incremental" in spec else 12)


@pytest.mark.parametrize("column", ["id", "seen"])
def test_the_digest_of_a_watermark_sees_new_rows_and_late_ones(
    base: SqlPlace, tmp_path: Path, column: str
) -> None:
    """What lies further back than `lateness` is as it was, by declaration."""
    lateness = 2 if column == "id" else 2 / 24
    project = project_of(tmp_path, spec_of(base, column, lateness))

    def digest(data: Rows) -> str:
        base.put(data)
        (part,) = open_source(project).parts()
        return part.digest

    data = rows(12)
    first = digest(data)
    assert digest(data) == first
    assert digest(data[:11]) != first
    assert digest(data[1:]) != first
    assert digest([*data[:11], data[11] | {"note": "late"}]) != first
    assert digest([data[0] | {"note": "too late"}, *data[1:]]) == first


def test_two_columns_of_one_name(base: SqlPlace, tmp_path: Path) -> None:
    base.put(rows(2))
    spec = {**base.spec, "query": "SELECT id, code, id FROM visits"}
    del spec["table"]
    with pytest.raises(SourceError, match="more than one 'id'"):
        read(project_of(tmp_path, spec, key=[]))


def test_types_only_postgresql_has(database: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("WAREHOUSE_URL", database)
    query = (
        "SELECT 1 AS id, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid AS code, 1.50::numeric AS "
        "weight, '2024-03-01 12:00+02'::timestamptz AS seen, '{\"a\": 1}'::jsonb AS note, "
        "'2024-03-01'::date AS day, 'x'::char(3) AS city, true AS member, NULL::int AS visits"
    )
    spec = {"format": "sql", "query": query, "credentials": "WAREHOUSE_URL"}
    for options in ({}, {"pool_pre_ping": True}):
        (row,) = read(project_of(tmp_path, {**spec, "options": options}, key=[]))
        assert row["code"] == "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
        assert row["weight"] == 1.5
        assert row["seen"] == datetime(2024, 3, 1, 10)
        assert row["day"] == datetime(2024, 3, 1)
        assert (row["member"], row["visits"]) == (True, None)
        assert row["note"] == '{"a": 1}'


def test_an_sqlite_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    spec = {"format": "sql", "path": "sqlite:///none.db", "table": "t"}
    with pytest.raises(SourceError, match=r"^sqlite:.*none\.db: no file .*; correct source\.path"):
        read(project_of(tmp_path, spec))
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"table": "visit"}, r"Correct source\.table$"),
        ({"query": "SELECT id, no_such FROM visits"}, r"Correct source\.query$"),
        ({"query": "SELEC id FROM visits"}, r"Correct source\.query$"),
        (
            {
                "query": "SELECT code FROM visits",
                "incremental": {"by": "watermark", "column": "id"},
            },
            r"Correct source\.query or source\.incremental\.column$",
        ),
        (
            {"query": "SELECT * FROM visits WHERE 1 = 0"},
            r"the answer to source\.query has no rows$",
        ),
    ],
)
def test_what_the_database_refuses_is_told_by_place_and_key(
    base: SqlPlace, tmp_path: Path, asked: dict[str, Any], says: str
) -> None:
    base.put(rows(2))
    spec = {key: value for key, value in base.spec.items() if key != "table"} | asked
    with pytest.raises(SourceError, match=says) as caught:
        read(project_of(tmp_path, spec, key=[]))
    assert str(caught.value).startswith(("sqlite:///", "postgresql"))


def test_the_data_of_a_database_are_told_by_what_was_asked(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("CREATE TABLE visits AS SELECT 1 AS id, 'x' AS visits, 1 AS member")
    connection.close()
    columns = {name: {"type": "integer"} for name in ("id", "visits", "member")}
    spec = {"format": "sql", "path": "sqlite:///shop.db", "table": "visits"}
    with pytest.raises(ContractError, match=r"^sqlite:///shop\.db, source\.table visits: 1 of 1"):
        rehearse(project_of(tmp_path, spec, columns=columns, key=[]))
    columns["age"] = {"type": "integer"}
    with pytest.raises(ContractError, match=r"shop\.db, source\.table visits has no column 'age'"):
        rehearse(project_of(tmp_path, spec, columns=columns, key=[]))


def test_a_place_holds_nothing_secret() -> None:
    sql = {"format": "sql", "query": "SELECT 1"}
    assert SourceSpec.model_validate({"path": "https://host/a.csv?token=k9"}).place == (
        "https://host/a.csv"
    )
    assert SourceSpec.model_validate({**sql, "path": "dialect://me@host/x?key=k9"}).place == (
        "dialect://host/x, source.query"
    )
    assert SourceSpec.model_validate({**sql, "credentials": "A_URL"}).place == (
        "the database of A_URL, source.query"
    )


def test_credentials_that_are_no_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAREHOUSE_URL", "not-a-url-Secret-8")
    spec = {"format": "sql", "credentials": "WAREHOUSE_URL", "table": "t"}
    with pytest.raises(SourceError, match="WAREHOUSE_URL holds no SQLAlchemy URL") as caught:
        open_source(project_of(tmp_path, spec))
    assert "Secret-8" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "package", "extra"),
    [
        ("snowflake://account/db", "snowflake.sqlalchemy", "snowflake"),
        ("bigquery://project/set", "sqlalchemy_bigquery", "bigquery"),
        ("postgresql+psycopg://127.0.0.1/db", "psycopg", "postgresql"),
    ],
)
def test_a_driver_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    sa.dialects.registry.impls.pop(path.partition(":")[0].replace("+", "."), None)
    options = {"pool_pre_ping": True}  # PostgreSQL: the way without ADBC
    spec = {"format": "sql", "path": path, "table": "t", "options": options}
    with pytest.raises(SourceError, match=rf"pip install 'lifecycle-flows\[{extra}\]'"):
        read(project_of(tmp_path, spec))


def _dialect(name: str) -> sa.Dialect:
    if name == "snowflake":
        from snowflake.sqlalchemy.snowdialect import SnowflakeDialect

        return SnowflakeDialect()
    from sqlalchemy_bigquery import BigQueryDialect

    return BigQueryDialect()


@pytest.mark.parametrize(
    ("name", "table", "expected"),
    [
        (
            "snowflake",
            "sales.visits",
            "SELECT * FROM sales.visits WHERE seen > '2024-03-01 18:30:00.000000' "
            "ORDER BY seen, id",
        ),
        (
            "bigquery",
            "sales.visits",
            "SELECT * FROM `sales`.`visits` WHERE `seen` > "
            "DATETIME '2024-03-01 18:30:00' ORDER BY `seen`, `id`",
        ),
    ],
)
def test_what_the_cloud_warehouses_are_sent(name: str, table: str, expected: str) -> None:
    spec = SourceSpec.model_validate(
        {
            "format": "sql",
            "path": f"{name}://account/db",
            "table": table,
            "incremental": {"by": "watermark", "column": "seen"},
        }
    )
    statement = Sql(spec, Path(), ["id"]).select(datetime(2024, 3, 1, 18, 30))
    compiled = statement.compile(dialect=_dialect(name), compile_kwargs={"literal_binds": True})
    assert " ".join(str(compiled).split()) == expected


SERVICE_ACCOUNT = json.dumps({"type": "service_account", "private_key": "Secret-8"})
ENCODED = base64.b64encode(SERVICE_ACCOUNT.encode()).decode()


@pytest.mark.parametrize(
    ("url", "options"),
    [
        (
            "snowflake://me:p%40ss@org-acc/shop/sales?warehouse=small&role=reader",
            {
                "username": "me",
                "password": "p@ss",
                "adbc.snowflake.sql.account": "org-acc",
                "adbc.snowflake.sql.db": "shop",
                "adbc.snowflake.sql.schema": "sales",
                "adbc.snowflake.sql.warehouse": "small",
                "adbc.snowflake.sql.role": "reader",
                "adbc.snowflake.sql.client_option.disable_telemetry": "true",
            },
        ),
        ("snowflake://me:p@acc/shop?authenticator=externalbrowser", None),
        (
            f"bigquery://shop/sales?credentials_base64={quote(ENCODED)}&location=EU",
            {
                "adbc.bigquery.sql.project_id": "shop",
                "adbc.bigquery.sql.dataset_id": "sales",
                "adbc.bigquery.sql.location": "EU",
                "adbc.bigquery.sql.auth_type": "adbc.bigquery.sql.auth_type.json_credential_string",
                "adbc.bigquery.sql.auth_credentials": SERVICE_ACCOUNT,
            },
        ),
        (
            "bigquery://shop?credentials_path=/etc/key.json",
            {
                "adbc.bigquery.sql.project_id": "shop",
                "adbc.bigquery.sql.auth_type": "adbc.bigquery.sql.auth_type.json_credential_file",
                "adbc.bigquery.sql.auth_credentials": "/etc/key.json",
            },
        ),
        ("bigquery://shop/sales?arraysize=1000", None),
        ("mysql://me@host/shop", None),
    ],
)
def test_a_url_is_translated_for_the_driver(url: str, options: dict[str, str] | None) -> None:
    """What the driver has no option for is left to SQLAlchemy; the installed drivers take ours."""
    translated = adbc_options(sa.make_url(url))
    assert translated == options
    if translated:
        driver = importlib.import_module(f"adbc_driver_{url.partition(':')[0]}")
        driver.connect(db_kwargs=translated).close()  # which connects to nothing yet


class FakeConnection:
    """Answers any statement with one row, as an ADBC connection and its cursor do."""

    def __init__(self) -> None:
        self.statement = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def cursor(self) -> Self:
        return self

    def execute(self, statement: str) -> None:
        self.statement = " ".join(statement.split())

    def fetch_record_batch(self) -> list[pa.RecordBatch]:
        return [pa.RecordBatch.from_pydict({"id": [Decimal(7)]})]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("snowflake://me:p@acc/shop", "SELECT * FROM sales.visits ORDER BY id"),
        ("bigquery://shop", "SELECT * FROM `sales`.`visits` ORDER BY `id`"),
    ],
)
def test_the_warehouses_answer_through_their_drivers(
    monkeypatch: pytest.MonkeyPatch, url: str, expected: str
) -> None:
    connection, passed = FakeConnection(), {}

    def connect(db_kwargs: dict[str, str]) -> FakeConnection:
        passed.update(db_kwargs)
        return connection

    driver = importlib.import_module(f"adbc_driver_{url.partition(':')[0]}.dbapi")
    monkeypatch.setattr(driver, "connect", connect)
    monkeypatch.setenv("WAREHOUSE_URL", url)
    spec = {"format": "sql", "credentials": "WAREHOUSE_URL", "table": "sales.visits"}
    source = Sql(SourceSpec.model_validate(spec), Path(), ["id"])
    (batch,) = source.batches({"id": ColumnSpec(type="integer")})
    assert batch.to_pylist() == [{"id": 7}]
    assert connection.statement == expected
    assert passed == adbc_options(sa.make_url(url))


@pytest.mark.parametrize("package", ["snowflake.sqlalchemy", "sqlalchemy_bigquery"])
def test_a_dialect_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    """The driver is, which without its extra is somebody else's."""
    extra = "snowflake" if "snowflake" in package else "bigquery"
    monkeypatch.setitem(sys.modules, package, None)
    sa.dialects.registry.impls.pop(extra, None)
    spec = {"format": "sql", "path": f"{extra}://account/db", "table": "t"}
    with pytest.raises(SourceError, match=rf"pip install 'lifecycle-flows\[{extra}\]'"):
        read(project_of(tmp_path, spec))


def test_a_driver_says_nothing_of_the_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BigQuery's own driver, which looks at the account before it asks any server."""
    monkeypatch.setenv(
        "WAREHOUSE_URL", f"bigquery://shop/sales?credentials_base64={quote(ENCODED)}"
    )
    spec = {"format": "sql", "credentials": "WAREHOUSE_URL", "table": "visits"}
    with pytest.raises(SourceError, match="email must be provided") as caught:
        read(project_of(tmp_path, spec))
    assert "Secret-8" not in str(caught.value)
    held = Credentials(SourceSpec.model_validate(spec))
    assert held.scrub("the key is Secret-8") == "the key is ***"
