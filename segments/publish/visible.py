"""
The audiences that followers see, in an order that never shows too much.

    shown     followers see it, and every published bucket has its members
    hidden    granted since, or of an account whose opt-outs count only since: published buckets
              lack its members or these opt-outs; shown once every bucket was published anew

A revoked audience leaves the catalog at once, its members with the next round of all buckets. An
audience made after the last look had no published members, and is shown at once.
"""

from collections.abc import Collection

import msgspec

from segments.model.catalog import CatalogSnapshot
from segments.publish.part import Part, Scope, part_of, without_audiences


class Seen(msgspec.Struct, frozen=True):
    """An earlier publication, to go on from."""

    scope: Scope | None
    """The filter of every published bucket; `None`: everything is published."""
    last_audience: int
    """The highest in the whole catalog by then."""


class Visible:
    """
    The part of the store that followers see, and are about to see; without `names`, everything.
    """

    def __init__(self, names: Collection[str] | None) -> None:
        self._names = names
        self._part: Part | None = None
        self._before: Seen | None = None
        self._shown: frozenset[int] = frozenset()
        self._hidden: frozenset[int] = frozenset()
        self._said: CatalogSnapshot | None = None

    @property
    def scope(self) -> Scope | None:
        """The current filter of records."""
        return None if self._before is None else self._before.scope

    @property
    def seen(self) -> Seen:
        """For the publication's next publisher; only if nothing is hidden or owed."""
        assert self._before is not None, "taken before anything is published"
        return self._before

    @property
    def hides_some(self) -> bool:
        """Whether audiences wait for all buckets to be published anew."""
        return bool(self._hidden)

    def begin(self, seen: Seen | None = None) -> None:
        """Forget what followers see, but for an earlier publication."""
        self._part, self._said, self._before = None, None, seen
        self._hidden = frozenset()
        scope = None if seen is None else seen.scope
        self._shown = frozenset() if scope is None else scope.audience_ids

    def take(self, catalog: CatalogSnapshot) -> bool:
        """
        Take the ledger's catalog; tell whether all buckets must be published anew.

        Raises:
            segments.model.refusal.NotFound: A recipient does not exist.
        """
        part, before = part_of(catalog, self._names), self._before
        last_audience = max((each.id for each in catalog.audiences), default=0)
        ids = frozenset(each.id for each in part.catalog.audiences)
        is_owed = False
        hidden: frozenset[int] = frozenset()
        if before is not None and before.scope is not None and part.scope is not None:
            anew = {i for i in ids - self._shown if i <= before.last_audience}
            is_owed = bool(
                anew or self._shown - ids or before.scope.differs(part.scope, ids & self._shown)
            )
            hidden = ids & (anew | before.scope.newly_hidden(part.scope))
        self._hidden, self._shown = hidden, ids - hidden
        self._part, self._before = part, Seen(part.scope, last_audience)
        return is_owed

    def catalog(self, *, with_hidden: bool = False) -> CatalogSnapshot:
        """Return the catalog for followers."""
        assert self._part is not None, "taken before anything is published"
        return without_audiences(self._part.catalog, () if with_hidden else self._hidden)

    @property
    def is_new(self) -> bool:
        """Whether followers have another catalog."""
        return self._said != self.catalog()

    def said(self, catalog: CatalogSnapshot) -> None:
        """Note the catalog that followers have."""
        self._said = catalog
        shown = self._hidden & {each.id for each in catalog.audiences}
        self._shown |= shown
        self._hidden -= shown
