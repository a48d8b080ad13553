"""`python -m flows FLOW [PROJECT] [OPTIONS]`, which `lifecycle run` starts."""

import sys

from lifecycle.cli.flow import run_flow

if len(sys.argv) < 2:
    sys.exit("usage: lifecycle run FLOW [PROJECT] [OPTIONS]")
run_flow(sys.argv[1], sys.argv[2:], f"lifecycle run {sys.argv[1]}")
