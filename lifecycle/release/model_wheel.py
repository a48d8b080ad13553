"""The wheel of this package that goes into a registered model, so that it can be deployed.

A model's environment is made from its `requirements.txt`, elsewhere and later: by
`mlflow models serve`, in a container, on a platform. It names this package, which no index has, so
the model brings it. The wheel declares what a model needs to answer, not what training needs.
"""

import base64
import hashlib
import io
import re
import zipfile
from functools import cache
from importlib.metadata import requires, version
from pathlib import Path

from lifecycle.runtime.identity import PACKAGE

DISTRIBUTION = "lifecycle-flows"
ANSWERING = (
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
    "pydantic-settings",
    "python-dotenv",
    "pyyaml",
)
"""Distributions that loading a bundle imports, whatever library runs its model."""
BUILT = (1980, 1, 1, 0, 0, 0)
"""Time of each file in it: equal code makes an equal wheel."""


def installed_version(distribution: str) -> str:
    """Version of a distribution without a local label, which no index has."""
    return version(distribution).partition("+")[0]


def write_wheel(folder: Path) -> Path:
    """Write the wheel of the code that runs now; equal code gives equal bytes.

    Its version ends with a digest of its contents, as a local label. An index may not have such
    versions, and installers prefer it to the version without a label: what another party
    publishes under this name is never installed instead.
    """
    label, content = _wheel()
    file = folder / f"{DISTRIBUTION.replace('-', '_')}-{label}-py3-none-any.whl"
    file.write_bytes(content)
    return file


@cache
def _wheel() -> tuple[str, bytes]:
    """Version and bytes; once per process, as it takes a quarter of a second."""
    sources = {
        f"{PACKAGE.name}/{file.relative_to(PACKAGE).as_posix()}": file.read_bytes()
        for file in sorted(PACKAGE.rglob("*"))
        if file.suffix in (".py", ".typed", ".j2")
    }
    joined = b"".join(hashlib.sha256(n.encode() + b"\0" + c).digest() for n, c in sources.items())
    label = f"{installed_version(DISTRIBUTION)}+model.{hashlib.sha256(joined).hexdigest()[:12]}"
    info = f"{DISTRIBUTION.replace('-', '_')}-{label}.dist-info"
    files = sources | {
        f"{info}/METADATA": _metadata(label).encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: lifecycle\n"
        b"Root-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},sha256={_hash(c)},{len(c)}\n" for name, c in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, BUILT)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    return label, buffer.getvalue()


def _metadata(label: str) -> str:
    head = f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: {label}\n"
    needed = [line for line in requires(DISTRIBUTION) or () if "extra ==" not in line]
    lines = [line for line in needed if re.split(r"[^\w.-]", line)[0] in ANSWERING]
    return head + "".join(f"Requires-Dist: {line}\n" for line in lines)


def _hash(content: bytes) -> str:
    digest = hashlib.sha256(content).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
