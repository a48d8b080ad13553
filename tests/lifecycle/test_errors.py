"""What an error says on one line."""

import errno
import os
import re

import pytest

from lifecycle.errors import DataError, first_line, full_disk, ray_reason
from lifecycle.runtime.identity import PACKAGE

XML = "<?xml?><Error><Code>AccessDenied</Code>\n<Message>Access Denied.</Message></Error>"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("\n  no such column  \nTraceback (most recent call last)"), "no such column"),
        (KeyError(), "KeyError"),
        (OSError("Generic S3 error\n ↳ timed out\n ↳ reset"), "Generic S3 error: timed out: reset"),
        (OSError(f"Client error\n \x1b[33m↳\x1b[0m {XML}"), "Client error: Access Denied."),
        (OSError("GET https://b.org/a?X-Signature=s3cr3t failed"), "GET https://b.org/a failed"),
        (ValueError('near "?": syntax error; is a?b = 1 meant?'), 'near "?": syntax error; '
         "is a?b = 1 meant?"),
    ],
)  # fmt: skip
def test_the_first_line_of_an_error(error: Exception, line: str) -> None:
    assert first_line(error) == line


def test_what_a_task_of_rays_raised_is_named_with_its_type() -> None:
    error = RuntimeError("ray::task() (pid=1)\nTraceback")
    assert ray_reason(error) == "ray::task() (pid=1)"
    error.cause = DataError("no rows\nmore")  # type: ignore[attr-defined]  # as Ray's errors have
    assert ray_reason(error) == "DataError: no rows"
    announced = "Initialization failure from server:"
    told = ConnectionError(f"{announced}\nTraceback (most recent call last):\n  …\nOSError: full")
    assert ray_reason(told) == f"{announced} OSError: full"
    assert ray_reason(ConnectionError("nothing:")) == "nothing:"


def test_no_module_takes_the_first_line_by_itself() -> None:
    own = re.compile(r"str\(error\)[^\n]*(?:split\(\"\\n\", 1\)\[0\]|splitlines\(\)(?:\[0\]|\), ))")
    places = [str(f) for f in PACKAGE.rglob("*.py") if own.search(f.read_text())]
    assert places == []


def test_a_full_disk_is_told_with_its_cure_and_other_errors_are_not() -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/a.parquet")
    assert full_disk(error).startswith("/data/a.parquet: No space left on device; make room")
    assert full_disk(PermissionError(errno.EACCES, "Permission denied", "/data")) == ""
