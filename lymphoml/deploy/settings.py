"""What the JSON files of an exported folder may contain: it may come from a stranger."""

from typing import Annotated, Any, Literal

from annotated_types import Len

from lymphoml.core.section import AtLeastOne, Section
from lymphoml.runs.trained_on import FeaturesOf

Names = Annotated[list[str], Len(1)]


class Exported(Section):
    """config.json: what the runtime reads of it, and notes for people."""

    format: int
    name: str
    labels: dict[str, str]
    folds: Annotated[list[int], Len(1)]
    training_data: str
    trained_with: dict[str, Any]
    exported_with: dict[str, Any]
    model: dict[str, Any]
    data: dict[str, Any]  # DataConfig, but for root and cache
    parity: dict[str, Any] = {}  # until it was checked
    quantized: dict[str, Any] = {}


class Images(Section):
    crop: AtLeastOne | None
    resize: AtLeastOne | None
    size: Annotated[list[AtLeastOne], Len(2, 2)] | None
    normalize: Any
    views: Literal[1, 8]


class Column(Section):
    kind: Literal["numeric", "categorical"]
    log: bool = False
    calendar_years: bool = False
    categories: Names = []
    positive: bool
    may_be_missing: bool


class Inputs(FeaturesOf):
    """preprocessing.json"""

    images: Images | None
    features: Names | None
    clinical: dict[str, Column]


class Numbers(Section):
    missing: float
    low: float
    high: float
    quantiles: Annotated[list[float], Len(3, 3)]


class Categories(Section):
    missing: float
    categories: list[str]


class Ranges(Section):
    """training_ranges.json"""

    by_fold: dict[str, dict[str, Numbers | Categories]]


class Lowest(Section):
    folds: Annotated[list[int], Len(1)]
    scores: list[float | None]


class Rule(Section):
    """rule_out.json: see `lymphoml.runs.triage_rule.portable_rule`."""

    sensitivity: float
    guarantee: str
    rank: int
    threshold: float | None
    n_tumoral: int
    n_reactive: int
    folds: int
    repeats: int
    prevalence: float | None
    outcomes: dict[str, Any]
    assumptions: list[str]
    lowest: list[Lowest]
