"""wrk of Debian's packages: load on a URL, with every answer compared with the one expected."""

import json
import subprocess
from pathlib import Path
from typing import NamedTuple

SECONDS = 4
LUA = """
wrk.method = "POST"
local file = io.open("{body}", "rb"); wrk.body = file:read("*a"); file:close()
{headers}
local expected = "{expected}"
local wait = {delay}
wrong = 0
local threads = {{}}
function setup(thread) table.insert(threads, thread) end
function delay() return wait end
function response(status, headers, body)
  if status ~= 200 or not string.find(body, expected, 1, true) then wrong = wrong + 1 end
end
function done(summary, latency, requests)
  local bad = 0
  for _, thread in ipairs(threads) do bad = bad + thread:get("wrong") end
  io.write(string.format('{{"requests":%d,"seconds":%f,"p50":%f,"p99":%f,"wrong":%d}}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3,
    bad + summary.errors.connect + summary.errors.read + summary.errors.timeout))
end
"""


class Timed(NamedTuple):
    """Measurements of wrk."""

    rate: float
    """Requests per second."""
    p50: float
    """Milliseconds."""
    p99: float


class Load(NamedTuple):
    """A request, and what its answer must contain."""

    body: Path
    expected: str
    headers: dict[str, str]


def wrk(url: str, load: Load, clients: int, delay: int = 0) -> Timed:
    """wrk on one thread; every answer must contain what is expected."""
    headers = "\n".join(f'wrk.headers["{k}"] = "{v}"' for k, v in load.headers.items())
    script = load.body.with_suffix(".lua")
    script.write_text(
        LUA.format(body=load.body, headers=headers, expected=load.expected, delay=delay)
    )
    command = ["wrk", "-t1", f"-c{clients}", f"-d{SECONDS}s", "-s", str(script), url]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(process.stdout.strip().splitlines()[-1])
    assert result["requests"] > 0, (url, result)
    assert result["wrong"] == 0, (url, result)
    return Timed(result["requests"] / result["seconds"], result["p50"], result["p99"])
