"""`Project`: what a user declares, as one YAML file read into frozen, typed values.

Unknown keys are errors; `project_file` reads a file and tells what is wrong in it, and where.
The JSON schema for editors is `docs/project.schema.json`, written by `lifecycle schema`.
"""

from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from lifecycle.errors import ProjectError
from lifecycle.project_rules import check_rules
from lifecycle.specs import (
    METRICS,
    SCORING_RULES,
    ChecksSpec,
    ColumnSpec,
    ContractSpec,
    DecisionSpec,
    EvaluationSpec,
    FeatureViewSpec,
    GateSpec,
    Metric,
    MonitoringSpec,
    RetrainingSpec,
    Scalar,
    ScoringSpec,
    Section,
    ServingSpec,
    SourceSpec,
    SplitSpec,
    TaskKind,
    TimeSpec,
    TrainingSpec,
    TuningSpec,
)
from lifecycle.specs.formats import elsewhere

HookName = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
MetricName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Project(Section):
    """One machine-learning project: what, never where."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")
    """Names the registered model, the tables and the endpoint: lower case, digits, underscores."""
    description: str = ""
    source: SourceSpec
    task: TaskKind
    target: str
    positive: Scalar | None = None
    """Binary: the target value that counts as positive; by default 1."""
    entity: str | None = None
    """Column that identifies the person or thing a row is about; never a feature."""
    time: TimeSpec | None = None
    inputs: tuple[str, ...] | None = None
    """Columns the model may see; by default every contract column without another role."""
    leakage: tuple[str, ...] = ()
    """Consequences of the target: refused as features."""
    protected: tuple[str, ...] = ()
    """Protected attributes: reported on, and not features unless named in `inputs`."""
    ignore: tuple[str, ...] = ()
    """Columns that are neither features nor anything else."""
    features: HookName | None = None
    """`module:function` that turns a frame of inputs into a frame of features, same rows."""
    feature_views: dict[MetricName, FeatureViewSpec] = Field(default_factory=dict)
    """Facts of other sources, joined to each row; their features are inputs `<view>__<name>`."""
    contract: ContractSpec
    split: SplitSpec = SplitSpec()
    decision: DecisionSpec | None = None
    """Binary: makes a class of each probability, which is served as `predicted`."""
    training: TrainingSpec = TrainingSpec()
    tuning: TuningSpec = TuningSpec()
    checks: ChecksSpec = ChecksSpec()
    metrics: dict[MetricName, HookName] = Field(default_factory=dict)
    """Metrics of your own: name → `module:function` of (truth, prediction), greater is better."""
    evaluation: EvaluationSpec = EvaluationSpec()
    gate: GateSpec = GateSpec()
    serving: ServingSpec = ServingSpec()
    scoring: ScoringSpec = ScoringSpec()
    monitoring: MonitoringSpec = MonitoringSpec()
    retraining: RetrainingSpec = RetrainingSpec()

    _file: Path = PrivateAttr(default=Path("project.yaml"))

    @property
    def file(self) -> Path:
        """The project file."""
        return self._file

    @property
    def folder(self) -> Path:
        """Folder of the project file: relative paths and the features module start there."""
        return self._file.parent

    def with_source(self, path: str | Path) -> Self:
        """The same project on another file, folder or URL; a relative path starts where the caller
        is, and an ending that names another format than the project's is believed.

        Raises:
            ProjectError: the URL holds a password.
        """
        text = str(path)
        if "://" not in text:
            text = str(Path(text).expanduser().absolute())
        try:
            return self.model_copy(update={"source": elsewhere(self.source, text)})
        except ValidationError as error:
            problems = [detail["msg"].removeprefix("Value error, ") for detail in error.errors()]
            raise ProjectError(f"--source: {'; '.join(problems)}") from None

    @property
    def metric(self) -> Metric:
        """The metric that decides at the gate and in monitoring."""
        return self.gate.metric or METRICS[self.task][0]

    @property
    def training_metric(self) -> Metric:
        """The metric that stops training early and ranks the trials of a search.

        A model that is fitted to the median is judged by `mae`, whose minimum that is.
        """
        parameters = self.training.parameters
        fitted_to = {parameters.get("objective"), parameters.get("loss")}
        if self.task == "regression" and fitted_to & {"reg:absoluteerror", "absolute_error"}:
            return self.training.metric or "mae"
        return self.training.metric or SCORING_RULES[self.task]

    @property
    def metric_names(self) -> tuple[Metric, ...]:
        """Every metric an evaluation has: those of the task, then the project's own."""
        return (*METRICS[self.task], *self.metrics)

    @property
    def classes(self) -> tuple[Scalar, ...]:
        """Multiclass: the target's values, in the order of their codes; otherwise empty."""
        if self.task != "multiclass":
            return ()
        return self.contract.columns[self.target].categories or ()

    @property
    def view_columns(self) -> dict[str, ColumnSpec]:
        """Features of the views under their names as inputs, `<view>__<feature>`."""
        return {
            f"{view}__{name}": feature.model_copy(update={"nullable": True})
            for view, spec in self.feature_views.items()
            for name, feature in spec.features.items()
        }

    @property
    def columns(self) -> dict[str, ColumnSpec]:
        """What a row has once the views are joined to it: the contract's columns, then theirs."""
        return self.contract.columns | self.view_columns

    @property
    def input_columns(self) -> tuple[str, ...]:
        """Columns the model may see, in the contract's order, then the features of the views."""
        return (*self.source_inputs, *self.view_columns)

    @property
    def asked_columns(self) -> dict[str, ColumnSpec]:
        """Fields of a request: the inputs, or with views the entity and the inputs they leave."""
        asked = (self.entity, *self.source_inputs) if self.feature_views else self.input_columns
        return {name: self.contract.columns[name] for name in asked if name is not None}

    @property
    def source_inputs(self) -> tuple[str, ...]:
        """The inputs that are contract columns."""
        if self.inputs is not None:
            return self.inputs
        taken = {self.target, *self.leakage, *self.protected, *self.ignore}
        taken |= {self.entity} if self.entity else set()
        taken |= {self.time.column} if self.time else set()
        return tuple(name for name in self.contract.columns if name not in taken)

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        check_rules(self)
        return self
