"""How a stage runs as a Prefect task."""

from lifecycle.process import no_telemetry

no_telemetry()  # before Prefect is imported, which reports that; see `flows`
