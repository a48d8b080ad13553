"""Stand-ins for interpreters of an upgrade: they do what its programs do, in a moment, or fail."""

import sys
from pathlib import Path
from textwrap import dedent

import sqlalchemy as sa

from lifecycle.runtime.servers import DATABASE

PYTHON = sys.executable
"""A test may put a stand-in in its place."""
SCRIPT = dedent(
    """\
    #!{python}
    import json, os, sqlite3, sys

    def run(url, *statements):
        if url.startswith("sqlite"):
            connection = sqlite3.connect(url.partition(":///")[2])
        else:
            import psycopg

            connection = psycopg.connect("postgresql" + url[url.index("://"):])
        rows = [connection.execute(statement) for statement in statements][-1]
        names = sorted(row[0] for row in rows) if statements[-1].startswith("SELECT") else []
        connection.commit()
        connection.close()
        return names

    def versions():
        url = os.environ["LIFECYCLE_MLFLOW_TRACKING_URI"]
        entry = dict(version=1, digest="d", aliases=["champion"], rows=7, answers=answer)
        names = run(url, "SELECT name FROM registered_models")
        return [entry | dict(name=name) for name in names]

    breaks, answer = {breaks!r}, {answer!r}
    program = sys.argv[3] if sys.argv[2] == "-m" else sys.argv[4]
    file = sys.argv[4] if len(sys.argv) > 4 else ""
    is_list = "--list" in sys.argv
    if program in ("mlflow", "mlflow.server.auth", "prefect"):
        url = os.environ[{database!r} if program == "prefect" else "UPGRADE_URL"]
        table = "alembic_version_auth" if program == "mlflow.server.auth" else "alembic_version"
        run(url, "UPDATE " + table + " SET version_num = 'new'")
        if program == breaks:
            run(url, "DROP TABLE content")
            sys.exit("column runs.later: the migration ends here")
    elif program == "lifecycle.upgrade.answers":
        if breaks == ("list" if is_list else "answers"):
            sys.exit("no such column: runs.later")
        packages = dict(python="3", mlflow={answer!r})
        json.dump(dict(packages=packages, versions=versions()), open(file, "w"))
    else:
        if breaks == "endpoint":
            sys.exit("the replica does not start")
        json.dump(dict(champions=[dict(name="small", version=1, rows=7)]), open(file, "w"))
    """
)


def interpreter(file: Path, breaks: str = "", answer: str = "same") -> Path:
    """Make an interpreter.

    Args:
        breaks: what it fails at: `mlflow`, `mlflow.server.auth`, `prefect`, `answers`,
            `list` or `endpoint`.
        answer: what its versions answer.
    """
    text = SCRIPT.format(python=PYTHON, database=DATABASE[0], breaks=breaks, answer=answer)
    file.write_text(text)
    file.chmod(0o755)
    return file


def make_databases(*urls: str) -> None:
    """Make a database of MLflow, one of Prefect and one of users, as small as they are told by.

    Args:
        urls: in this order; the last may be left out.
    """
    for url, table in zip(urls, ("registered_models", "flow_run", "users"), strict=False):
        revision = "alembic_version_auth" if table == "users" else "alembic_version"
        engine = sa.create_engine(url)
        with engine.begin() as connection:
            for statement in (
                f"CREATE TABLE {table} (name VARCHAR(20))",
                f"INSERT INTO {table} VALUES ('small')",  # noqa: S608 - a name of ours
                "CREATE TABLE experiments (name VARCHAR(20), artifact_location VARCHAR(200))",
                "CREATE TABLE content (number INTEGER)",
                "INSERT INTO content VALUES (7)",
                f"CREATE TABLE {revision} (version_num VARCHAR(32))",
                f"INSERT INTO {revision} VALUES ('former')",  # noqa: S608 - as above
            ):
                connection.execute(sa.text(statement))
        engine.dispose()
