"""Arguments and options that several commands of `lifecycle` take, each declared once."""

from pathlib import Path
from typing import Annotated

import typer

ProjectPath = Annotated[Path, typer.Argument(help="Project file.")]
EnvOption = Annotated[str | None, typer.Option("--env", help="dev, staging or prod.")]
