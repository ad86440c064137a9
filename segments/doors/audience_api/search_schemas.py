"""
Filters of searches for audiences.

    {"nameMatches": {"value": {"eq": {"value": "Shoes"}}}}
    {"status": {"value": "Active"}}
    {"accountIdMatches": {"value": {"eq": {"value": 7}}}}        also dataProviderIdMatches
    {"and": {"values": [...]}}   {"or": {"values": [...]}}   {"not": {"value": {...}}}

`ruleIdMatches` and `hasMetadata` hold of no audience, since none has a rule or metadata. A tree has
at most `MAX_DEPTH` levels and `MAX_FILTERS` filters, so that no request makes a query that the
database refuses.
"""
# ruff: noqa: N815 - members are spelled as in the vendor's document

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from segments.doors.audience_api.audience_schemas import (
    DEFAULT_SIZE,
    MAX_ID,
    STATUS_TO_STATE,
    AudienceStatus,
    PageNumber,
    PageSize,
    cursor_field,
)
from segments.doors.rest.known_members import KnownForm
from segments.ledger.audience_list import (
    AllOf,
    AnyOf,
    ByProvider,
    Condition,
    InState,
    Named,
    Not,
    OwnedBy,
)
from segments.runtime.json_values import WholeNumber

MAX_DEPTH = 5
MAX_FILTERS = 100
_NONE = AnyOf(())


class TextValue(KnownForm):
    """A text."""

    value: str = Field(max_length=256)


class TextIs(KnownForm):
    """Exactly this text."""

    eq: TextValue


class NumberValue(KnownForm):
    """A number."""

    value: WholeNumber = Field(ge=-MAX_ID, le=MAX_ID)


class NumberIs(KnownForm):
    """Exactly this number."""

    eq: NumberValue


class TextMatch(KnownForm):
    """A text to match."""

    value: TextIs


class NumberMatch(KnownForm):
    """A number to match."""

    value: NumberIs


class StatusMatch(KnownForm):
    """A status to match."""

    value: AudienceStatus


class MetadataFilter(KnownForm):
    """The name of a metadatum."""

    nameMatches: TextMatch


class MetadataMatch(KnownForm):
    """A metadatum to have."""

    value: MetadataFilter


class Negated(KnownForm):
    """A filter that must not hold."""

    value: "AudienceFilter"


class Several(KnownForm):
    """Filters."""

    values: tuple["AudienceFilter", ...]


class AudienceFilter(KnownForm):
    """A filter: one of its members."""

    model_config = ConfigDict(populate_by_name=True)

    also_spelled: ClassVar[Mapping[str, str]] = {"and": "and_", "or": "or_", "not": "not_"}

    and_: Several | None = Field(None, alias="and")
    or_: Several | None = Field(None, alias="or")
    not_: Negated | None = Field(None, alias="not")
    nameMatches: TextMatch | None = None
    status: StatusMatch | None = None
    accountIdMatches: NumberMatch | None = None
    dataProviderIdMatches: NumberMatch | None = None
    ruleIdMatches: NumberMatch | None = None
    hasMetadata: MetadataMatch | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.model_fields_set) != 1 or all(value is None for _, value in self):
            raise PydanticCustomError("one_filter", "must have exactly one member")
        return self

    def below(self) -> tuple["AudienceFilter", ...]:
        """Return the filters that this one joins."""
        if self.not_ is not None:
            return (self.not_.value,)
        joined = self.and_ or self.or_
        return () if joined is None else joined.values

    def condition(self) -> Condition:
        """Return the filter in the ledger's words."""
        if self.not_ is not None:
            return Not(self.not_.value.condition())
        if self.and_ is not None:
            return AllOf(tuple(each.condition() for each in self.and_.values))
        if self.or_ is not None:
            return AnyOf(tuple(each.condition() for each in self.or_.values))
        if self.nameMatches is not None:
            return Named(self.nameMatches.value.eq.value)
        if self.status is not None:
            return InState(STATUS_TO_STATE[self.status.value])
        if self.accountIdMatches is not None:
            return OwnedBy(self.accountIdMatches.value.eq.value)
        if self.dataProviderIdMatches is not None:
            return ByProvider(self.dataProviderIdMatches.value.eq.value)
        return _NONE


class _Search(KnownForm):
    """The common members of both searches."""

    pageSize: PageSize = DEFAULT_SIZE
    matches: AudienceFilter | None = None
    includeInternal: bool = Field(False, description="No difference: no audience is internal.")

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        depths = [] if self.matches is None else list(_depths(self.matches, 1))
        if len(depths) > MAX_FILTERS:
            message = f"has {len(depths)} filters, {MAX_FILTERS} at most"
            raise PydanticCustomError("filters", "{message}", {"message": message})
        if depths and max(depths) > MAX_DEPTH:
            message = f"has filters {max(depths)} levels deep, {MAX_DEPTH} at most"
            raise PydanticCustomError("depth", "{message}", {"message": message})
        return self

    @property
    def condition(self) -> Condition | None:
        """The filter in the ledger's words."""
        return None if self.matches is None else self.matches.condition()


class AudienceSearchRequest(_Search):
    """A search, with the number of a page."""

    page: PageNumber = 1


class AudienceSearchRequestV2(_Search):
    """A search, with a cursor."""

    next: str | None = cursor_field()


def _depths(filter_: AudienceFilter, depth: int) -> Iterator[int]:
    yield depth
    for each in filter_.below():
        yield from _depths(each, depth + 1)


def _rebuilt(*models: Any) -> None:
    for model in models:
        model.model_rebuild()


_rebuilt(Negated, Several, AudienceFilter)
