"""Every place a source can be in: the same rows written there, spoilt there, or taken away."""

import bz2
import csv
import gzip
import hashlib
import io
import json
import lzma
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa
from deltalake import write_deltalake

Rows = list[dict[str, Any]]
CONTRACT: dict[str, dict[str, Any]] = {
    "id": {"type": "integer"},
    "code": {"type": "string"},
    "city": {"type": "category", "nullable": True},
    "visits": {"type": "integer", "nullable": True},
    "weight": {"type": "number", "nullable": True},
    "member": {"type": "boolean", "nullable": True},
    "seen": {"type": "datetime", "nullable": True},
}
NAMES = [*CONTRACT, "note"]
"""The last one is not in the contract."""
TYPES = {
    "id": pa.int64(),
    "code": pa.string(),
    "city": pa.string(),
    "visits": pa.int64(),
    "weight": pa.float64(),
    "member": pa.bool_(),
    "seen": pa.timestamp("us"),
    "note": pa.string(),
}
CITIES = ["Århus", "東京", None, 'a "quoted", one', "NA", "O'Higgins 50% / x=y"]


def rows(count: int = 40, start: int = 0) -> Rows:
    """Rows with all that gets lost easily."""
    return [
        {
            "id": n,
            "code": f"{n:03d}",
            "city": CITIES[n % len(CITIES)],
            "visits": None if n % 5 == 1 else n * 10,
            "weight": None if n % 7 == 2 else n + 0.25,
            "member": None if n % 11 == 3 else n % 2 == 0,
            "seen": None if n % 6 == 4 else datetime(2024, 3, 1, 12, 30) + timedelta(hours=n),
            "note": f"ny {n} é",
        }
        for n in range(start, start + count)
    ]


def encode(kind: str, data: Rows, names: Sequence[str] = NAMES) -> bytes:
    """Rows as the bytes of a file; `names` may have one twice."""
    if kind == "csv":
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(names)
        writer.writerows([_cell(row[name]) for name in names] for row in data)
        return text.getvalue().encode()
    if kind == "jsonl":
        return "".join(
            json.dumps(row, default=str, ensure_ascii=False) + "\n" for row in data
        ).encode()
    buffer = io.BytesIO()
    if kind == "parquet":
        pq.write_table(table(data, names), buffer)
    else:
        book = openpyxl.Workbook(write_only=True)
        sheet = book.create_sheet("rows")
        sheet.append(list(names))
        for row in data:
            sheet.append([row[name] for name in names])
        book.save(buffer)
    return buffer.getvalue()


def table(data: Rows, names: Sequence[str] = NAMES) -> pa.Table:
    columns = [pa.array([row[name] for row in data], TYPES[name]) for name in names]
    return pa.Table.from_arrays(columns, names=list(names))


def _cell(value: Any) -> Any:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else value


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda raw: raw,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda raw: pa.compress(raw, codec="zstd", asbytes=True),
}
ENDS = {"csv": "csv", "parquet": "parquet", "jsonl": "jsonl", "excel": "xlsx"}


class Place:
    """Where rows can be written; `spec` is the project's `source`."""

    spec: dict[str, Any]
    secret: str = ""
    ordered = True
    twice = True
    """Whether two columns can have one name there."""

    def put(self, data: Rows, names: Sequence[str] = NAMES) -> None:
        raise NotImplementedError

    def spoil(self) -> None:
        raise NotImplementedError

    def clear(self) -> None:
        raise NotImplementedError


@dataclass
class FilePlace(Place):
    """Files in a folder, on a web server, in a bucket, tracked by DVC, or in a package."""

    store: Any
    kind: str = "csv"
    pack: str = ""
    layout: str = "file"
    spec: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.secret = getattr(self.store, "secret", "")
        self.ordered = self.layout != "partitions"
        self.twice = self.kind != "jsonl"
        end = f"{ENDS[self.kind]}{self.pack}"
        inside = {"file": f"in.{end}", "glob": f"g-*.{end}"}.get(self.layout, "many")
        self.spec = {"format": self.kind, **self.store.spec(inside)}
        if self.layout == "partitions":
            self.spec["partitions"] = True

    def put(self, data: Rows, names: Sequence[str] = NAMES) -> None:
        self.clear()
        for name, part in self._parts(data).items():
            kept = [n for n in names if self.layout != "partitions" or n != "city"]
            self.store.write(name, PACKERS[self.pack](encode(self.kind, part, kept)))

    def spoil(self) -> None:
        name = next(iter(self._parts(rows(1))))
        whole = PACKERS[self.pack](encode(self.kind, rows(500)))
        if self.pack or self.kind in ("parquet", "excel"):
            whole = whole[: len(whole) // 2]
        else:
            whole = b'{"id": 1, "code": \n' if self.kind == "jsonl" else b"\0\1" * 500
        self.clear()
        self.store.write(name, whole)

    def clear(self) -> None:
        self.store.clear()

    def _parts(self, data: Rows) -> dict[str, Rows]:
        end = f"{ENDS[self.kind]}{self.pack}"
        if self.layout == "file":
            return {f"in.{end}": data}
        if self.layout == "partitions":
            found: dict[str, Rows] = {}
            for row in data:
                city = quote(row["city"], safe="") if row["city"] else "__HIVE_DEFAULT_PARTITION__"
                bare = {key: value for key, value in row.items() if key != "city"}
                found.setdefault(f"many/city={city}/part.{end}", []).append(bare)
            return found or {f"many/city=x/part.{end}": []}
        half = len(data) // 2
        if self.layout == "glob":
            return {f"g-1.{end}": data[:half], f"g-2.{end}": data[half:]}
        return {f"many/1/a.{end}": data[:half], f"many/2/b.{end}": data[half:]}


class Folder:
    """A folder of this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root / "data"

    def spec(self, inside: str) -> dict[str, Any]:
        return {"path": f"data/{inside}"}

    def write(self, name: str, content: bytes) -> None:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        (file.parent / "_SUCCESS").touch()  # as Spark leaves it

    def clear(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)


class Dvc(Folder):
    """A folder under DVC, as `dvc add` leaves it."""

    def spec(self, inside: str) -> dict[str, Any]:
        return {"path": f"data/{inside}.dvc"}

    def write(self, name: str, content: bytes) -> None:
        super().write(name, content)
        track(self.root / name.partition("/")[0], self.root.parent / ".dvc" / "cache")


def track(place: Path, cache: Path) -> None:
    """Leave the `.dvc` file of a file or folder; of a folder, also the list of its files."""
    if place.is_file():
        md5 = md5_of(place.read_bytes())
    else:
        files = [file for file in sorted(place.rglob("*")) if file.is_file()]
        listing = [
            {"md5": md5_of(file.read_bytes()), "relpath": file.relative_to(place).as_posix()}
            for file in files
        ]
        content = json.dumps(listing).encode()
        md5 = f"{md5_of(content)}.dir"
        kept = cache / "files" / "md5" / md5[:2] / md5[2:]
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(content)
    out = f"outs:\n- md5: {md5}\n  hash: md5\n  path: {place.name}\n"
    cache.mkdir(parents=True, exist_ok=True)
    place.with_name(f"{place.name}.dvc").write_text(out)


def md5_of(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


class Package(Folder):
    """Data that an installed package carries."""

    def __init__(self, root: Path) -> None:
        self.root = root / "carrier_of_rows"

    def spec(self, inside: str) -> dict[str, Any]:
        return {"path": f"package://carrier_of_rows/{inside}"}

    def write(self, name: str, content: bytes) -> None:
        super().write(name, content)
        (self.root / "__init__.py").touch()

    def clear(self) -> None:
        for file in self.root.glob("in.*"):
            file.unlink()


class SqlPlace(Place):
    """A table of a database."""

    twice = False

    def __init__(self, url: str, spec: dict[str, Any], secret: str = "") -> None:
        self.url, self.secret = url, secret
        self.spec = {"format": "sql", "table": "visits", **spec}

    def put(self, data: Rows, names: Sequence[str] = NAMES) -> None:
        self.clear()
        kinds = {
            pa.int64(): sa.BigInteger,
            pa.float64(): sa.Double,
            pa.bool_(): sa.Boolean,
            pa.timestamp("us"): sa.DateTime,
        }
        columns = [sa.Column(name, kinds.get(TYPES[name], sa.Text)) for name in names]
        made = sa.Table("visits", sa.MetaData(), *columns)
        self._run(lambda connection: made.create(connection))
        if data:
            backwards = data[::-1]  # the key says the order, not the table
            self._run(lambda connection: connection.execute(sa.insert(made), backwards))

    def spoil(self) -> None:
        self.clear()
        broken = "CREATE VIEW visits AS SELECT 1 / (id - 1) AS id FROM (SELECT 1 AS id) AS t"
        if "sqlite" in self.url:
            broken = "CREATE VIEW visits AS SELECT * FROM nowhere"
        self._run(lambda connection: connection.execute(sa.text(broken)))

    def clear(self) -> None:
        for kind in ("VIEW", "TABLE"):
            engine = sa.create_engine(self.url)
            has = sa.inspect(engine)
            names = has.get_view_names() if kind == "VIEW" else has.get_table_names()
            engine.dispose()
            if "visits" in names:
                self._run(
                    lambda connection, kind=kind: connection.execute(sa.text(f"DROP {kind} visits"))
                )

    def _run(self, act: Callable[[sa.Connection], Any]) -> None:
        engine = sa.create_engine(self.url)
        with engine.begin() as connection:
            act(connection)
        engine.dispose()


class DeltaPlace(Place):
    twice = False

    def __init__(self, root: Path) -> None:
        self.root = root / "table"
        self.spec = {"format": "delta", "path": "table"}

    def put(self, data: Rows, names: Sequence[str] = NAMES) -> None:
        write_deltalake(str(self.root), table(data, names), mode="overwrite")

    def spoil(self) -> None:
        self.put(rows())
        for file in self.root.glob("*.parquet"):
            file.unlink()

    def clear(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)


class FunctionPlace(Place):
    """A module beside the project file; `gives` is what its function returns."""

    def __init__(self, root: Path, gives: str) -> None:
        self.root, self.gives = root, gives
        self.spec = {"format": "python", "function": "made:visits"}

    def put(self, data: Rows, names: Sequence[str] = NAMES) -> None:
        pq.write_table(table(data, names), self.root / "made.parquet")
        self._write(
            f"t = pq.ParquetFile({str(self.root / 'made.parquet')!r}).read()\n    {self.gives}"
        )

    def spoil(self) -> None:
        self._write("raise ValueError('no rows today')")

    def clear(self) -> None:
        (self.root / "made.py").unlink(missing_ok=True)

    def _write(self, body: str) -> None:
        code = f"import pyarrow.parquet as pq\n\n\ndef visits():\n    {body}\n"
        (self.root / "made.py").write_text(code)
