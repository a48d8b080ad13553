"""In which order the stages run. Prefect reports its own import unless told not to beforehand."""

from lifecycle.process import no_telemetry

no_telemetry()  # the one effect of an import in this project: later is too late
