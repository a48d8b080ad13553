"""A project that was ingested, trained, released, scored, monitored and asked, without Ray."""

from dataclasses import dataclass
from typing import Any

from lifecycle.project import Project
from lifecycle.records import Scored, Trained
from lifecycle.runtime.run import Run
from lifecycle.settings import Settings

ASKED = "5f2a9c11d0e34b70000000000000"
RUN = Run(id="0b54a7f4-4a0e-4a57-8b37-8c4c5be0b5f1", name="train-small", who="ada")


@dataclass(frozen=True)
class Lived:
    project: Project
    settings: Settings
    made: Any
    trained: Trained
    scored: Scored
    entity: int
    """Of the logged prediction `<ASKED>-0`; a customer of the training part."""
