"""The sections of a project file: small frozen values, each documented where it is declared."""

from lifecycle.specs.base import (
    GREATER_IS_BETTER,
    METRICS,
    ColumnType,
    Metric,
    Scalar,
    Section,
    Share,
    TaskKind,
    TimeValue,
    greater_is_better,
)
from lifecycle.specs.checks import ChecksSpec, Suite
from lifecycle.specs.contract import (
    ColumnSpec,
    ContractSpec,
    ExpectSpec,
    FreshnessSpec,
    RetentionSpec,
    RowsSpec,
    RuleSpec,
)
from lifecycle.specs.data import (
    FeatureViewSpec,
    IncrementalSpec,
    SourceSpec,
    SplitSpec,
    TimeSpec,
)
from lifecycle.specs.monitoring import DriftSpec, MonitoringSpec, RetrainingSpec
from lifecycle.specs.serving import RolloutSpec, ScoringSpec, ServingSpec
from lifecycle.specs.training import (
    Choice,
    EvaluationSpec,
    FloatRange,
    GateSpec,
    IntRange,
    Range,
    TrainingSpec,
    TuningSpec,
)

__all__ = [
    "GREATER_IS_BETTER",
    "METRICS",
    "ChecksSpec",
    "Choice",
    "ColumnSpec",
    "ColumnType",
    "ContractSpec",
    "DriftSpec",
    "EvaluationSpec",
    "ExpectSpec",
    "FeatureViewSpec",
    "FloatRange",
    "FreshnessSpec",
    "GateSpec",
    "IncrementalSpec",
    "IntRange",
    "Metric",
    "MonitoringSpec",
    "Range",
    "RetentionSpec",
    "RetrainingSpec",
    "RolloutSpec",
    "RowsSpec",
    "RuleSpec",
    "Scalar",
    "ScoringSpec",
    "Section",
    "ServingSpec",
    "Share",
    "SourceSpec",
    "SplitSpec",
    "Suite",
    "TaskKind",
    "TimeSpec",
    "TimeValue",
    "TrainingSpec",
    "TuningSpec",
    "greater_is_better",
]
