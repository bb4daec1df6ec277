"""What a clinical column may be: `data.columns` of the configuration."""

from typing import Annotated, Literal

from pydantic import Field

from lymphoml.core.section import Category, Cell, Section

SEX_NAMES = {"sex", "gender"}
FEMALE = {"f", "female", "w", "weiblich", "femme", "féminin"}
MALE = {"m", "male", "männlich", "homme", "masculin"}


class NumericColumn(Section):
    """A count or a measurement."""

    kind: Literal["numeric"]
    column: str
    log: bool = False
    positive: bool = False


class CategoricalColumn(Section):
    """One of a few values; several spellings may mean one category."""

    kind: Literal["categorical"]
    column: str
    values: Annotated[dict[Cell, Category], Field(min_length=1)]
    role: Literal["sex"] | None = None

    @property
    def categories(self) -> list[str]:
        return sorted(set(self.values.values()))

    def sex_evidence(self, name: str) -> int:
        """Return how surely it is a person's sex: by role, else by name, else by its values."""
        found = {each.casefold() for each in self.categories}
        by_name = bool({name.casefold(), self.column.casefold()} & SEX_NAMES)
        by_values = bool(found & FEMALE and found & MALE)
        return 4 * (self.role == "sex") or 3 * (name == "sex") or 2 * by_name or 1 * by_values


class DateOfBirthColumn(Section):
    """A birth date, kept only as the age at `reference_date`, or as the difference of the years."""

    kind: Literal["date_of_birth"]
    column: str
    calendar_years: bool = False


ColumnConfig = Annotated[
    NumericColumn | CategoricalColumn | DateOfBirthColumn, Field(discriminator="kind")
]
