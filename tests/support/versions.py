"""Versions of a model that was never registered."""

from lifecycle.records import ModelVersion


def model(version: int) -> ModelVersion:
    return ModelVersion(
        name="small",
        version=version,
        uri=f"models:/small/{version}",
        run_id="r",
        digest=f"{version}" * 64,
        identity="i" * 64,
    )
