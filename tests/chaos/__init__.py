"""Flows that are killed, or find the disk full, at counted changes of files: `make chaos`."""

STAGES = (
    "prepare",
    "train",
    "release",
    "score",
    "monitor",
    "prepare new rows",
    "train again",
    "release again",
    "retention",
    "erase",
)
"""In the order in which they run; the source grows before `prepare new rows`."""
