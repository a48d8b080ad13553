"""Servers: asked once, with the credentials they want; the driver's package named if it lacks."""

import sys
from pathlib import Path

import pytest

from lifecycle.data.sources import open_source, source_digest
from lifecycle.data.sources.credentials import Credentials
from lifecycle.data.sources.remote import filesystem
from lifecycle.errors import BackendError, SourceError
from lifecycle.project import SourceSpec
from tests.support.makers import project_of
from tests.support.places import encode, rows
from tests.support.servers import TOKEN, Web


@pytest.mark.parametrize("says_versions", [True, False])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_file_is_fetched_once(web: Web, tmp_path: Path, says_versions: bool, kind: str) -> None:
    """Its digest is what the server says of it, or that of a copy, which is then read."""
    web.says_versions = says_versions
    web.files["/in.x"] = encode(kind, rows())
    url = f"http://127.0.0.1:{web.port}/in.x"
    project = project_of(tmp_path, {"path": url, "format": kind})
    source = open_source(project)
    (part,) = source.parts()
    assert sum(b.num_rows for b in source.batches(project.contract.columns)) == 40
    assert web.got["/in.x"] == 1
    web.files["/in.x"] = encode(kind, rows(41))
    assert source_digest(project) != part.digest


def test_without_the_right_header(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.files["/private/in.csv"] = encode("csv", rows())
    url = f"http://127.0.0.1:{web.port}/private/in.csv"
    with pytest.raises(SourceError, match="401"):
        open_source(project_of(tmp_path, {"path": url})).parts()
    project = project_of(tmp_path, {"path": url, "credentials": "WEB_HEADER"})
    with pytest.raises(SourceError, match=r"WEB_HEADER is not set.*'web-header'"):
        open_source(project)
    monkeypatch.setenv("WEB_HEADER", f"Bearer {TOKEN}")
    assert len(open_source(project).parts()) == 1


def test_a_query_in_a_url_is_not_repeated(web: Web, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{web.port}/none.csv?signature=signed-Secret-1"
    source = open_source(project_of(tmp_path, {"path": url}))
    with pytest.raises(SourceError) as caught:
        source.parts()
    assert "signed-Secret-1" not in str(caught.value) + source.place
    assert "/none.csv" in str(caught.value)


def test_a_server_that_is_down_may_be_tried_again(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="run again when it is up"):
        open_source(project_of(tmp_path, {"path": "http://127.0.0.1:9/in.csv"})).parts()
    spec = {"format": "sql", "path": "postgresql+psycopg://127.0.0.1:9/x", "table": "t"}
    for options in ({}, {"pool_pre_ping": True}):
        with pytest.raises(BackendError, match="run again when it is up"):
            open_source(project_of(tmp_path, {**spec, "options": options})).parts()


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [
        ("s3://bucket/in.csv", "s3fs", "s3"),
        ("gs://bucket/in.csv", "gcsfs", "gcs"),
        ("az://container/in.csv", "adlfs", "azure"),
        ("abfs://container/in.csv", "adlfs", "azure"),
    ],
)
def test_a_package_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, package: str, extra: str
) -> None:
    from fsspec.registry import _registry

    monkeypatch.delitem(_registry, url.partition(":")[0], raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SourceError, match=rf"pip install 'lifecycle-flows\[{extra}\]'"):
        open_source(project_of(tmp_path, {"path": url})).parts()


@pytest.mark.parametrize(
    ("url", "name", "inside"),
    [
        ("gs://bucket/a/in.csv", "GCSFileSystem", "bucket/a/in.csv"),
        ("az://container/a/in.csv", "AzureBlobFileSystem", "container/a/in.csv"),
        ("s3://bucket/a/in.csv", "S3FileSystem", "bucket/a/in.csv"),
    ],
)
def test_a_url_reaches_its_file_system_with_the_options(
    monkeypatch: pytest.MonkeyPatch, url: str, name: str, inside: str
) -> None:
    secret, option = {
        "gs": ('{"token": "anon"}', {"project": "p"}),
        "az": ('{"account_key": "a2V5LVNlY3JldA=="}', {"account_name": "me"}),
        "s3": ('{"key": "k", "secret": "s3cret"}', {"endpoint_url": "http://127.0.0.1:9"}),
    }[url[:2]]
    monkeypatch.setenv("STORE_KEYS", secret)
    spec = SourceSpec(path=url, credentials="STORE_KEYS", options=option)
    system, path = filesystem(spec, Credentials(spec))
    assert name in [kind.__name__ for kind in type(system).__mro__]
    assert path == inside
    for key, value in (*option.items(), *Credentials(spec).options().items()):
        assert system.storage_options[key] == value


def test_options_of_a_store_are_a_json_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORE_KEYS", "plain-Secret-5")
    project = project_of(tmp_path, {"path": "s3://b/in.csv", "credentials": "STORE_KEYS"})
    with pytest.raises(SourceError, match="STORE_KEYS must hold a JSON object") as caught:
        open_source(project).parts()
    assert "plain-Secret-5" not in str(caught.value)
