"""
What must be shown of whom: the rules of docs/ in plain Python, and nothing of the product.

    group ── P1, A        P1 ── related: B
    P2 ── related: agency Y ── sub account S

An audience is an instance: deleted and made anew under the same segment id, it
is another one, and whoever was in the first is not in it.
"""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

OWNERS = ("A", "B", "S")
PARTNER_OF = {"A": "A", "B": "B", "S": "Y"}
PUBLISHERS = ("P1", "P2")
EVERYONE = "everyone"

REACH = {
    EVERYONE: {"A", "B", "S"},
    "group": {"A", "B"},
    "P1": {"B"},
    "P2": {"S"},
    "Y": {"S"},
    "S": {"S"},
    "A": {"A"},
    "B": {"B"},
}
"""Whose segments an account's opt-out takes away, wherever the bid comes from."""

INVENTORY: dict[str, set[str | None]] = {
    EVERYONE: {"P1", "P2", None},
    "group": {"P1"},
    "P1": {"P1"},
    "P2": {"P2"},
}
"""On whose inventory it takes away everything."""

ACTIVE, DEACTIVATED, DELETED = "active", "deactivated", "deleted"


@dataclass
class Audience:
    """One instance of a segment."""

    owner: str
    segment: str
    state: str = ACTIVE


@dataclass(frozen=True)
class File:
    """What a delivery says; `audience` where it is of one that was there when it came."""

    owner: str
    persons: tuple[str, ...]
    actions: tuple[tuple[str, bool], ...]  # segment, whether it adds
    audience: int | None = None


@dataclass(frozen=True)
class Dump:
    """What a backup of the ledger and its files has: all but what only the store knows."""

    states: tuple[str, ...]  # of the audiences, by number
    done: dict[str, set[int]]
    erased: set[tuple[str, str]]
    waiting: dict[str, list[File]]
    granted: set[str]
    said: int


@dataclass
class Model:
    """All that was said, and what it comes to."""

    audiences: list[Audience] = field(default_factory=list)
    held: dict[str, set[int]] = field(default_factory=dict)  # by person; as bids find it
    done: dict[str, set[int]] = field(default_factory=dict)  # by finished jobs alone
    opt_outs: dict[str, set[str]] = field(default_factory=dict)  # by person: accounts
    erased: set[tuple[str, str]] = field(default_factory=set)  # person, account
    waiting: dict[str, list[File]] = field(default_factory=dict)  # by partner
    granted: set[str] = field(default_factory=set)
    dumped: Dump | None = None

    def live(self, owner: str, segment: str) -> int | None:
        """Return the audience that has a segment id now."""
        for number, audience in enumerate(self.audiences):
            is_asked_for = (audience.owner, audience.segment) == (owner, segment)
            if is_asked_for and audience.state != DELETED:
                return number
        return None

    def deliver(self, file: File) -> None:
        self.waiting.setdefault(PARTNER_OF[file.owner], []).append(file)

    def at_once(self, file: File) -> None:
        partner = PARTNER_OF[file.owner]
        self._apply(file, [self.held])
        if self.waiting.get(partner):
            self.waiting[partner].append(file)
        else:
            self._apply(file, [self.done])

    def load(self) -> None:
        for files in self.waiting.values():
            for file in files:
                self._apply(file, [self.held, self.done])
        self.waiting = {}

    def rebuild(self) -> None:
        """What was applied ahead of its turn comes with its turn."""
        self.held = {person: set(held) for person, held in self.done.items()}

    def dump(self) -> None:
        self.dumped = Dump(
            tuple(audience.state for audience in self.audiences),
            deepcopy(self.done),
            set(self.erased),
            deepcopy(self.waiting),
            set(self.granted),
            self.said,
        )

    @property
    def said(self) -> int:
        """Count what was said: each person to each account, and what was to be erased."""
        return sum(map(len, self.opt_outs.values())) + len(self.erased)

    @property
    def is_dump_behind(self) -> bool:
        """Whether the dump lacks a number that the store was told."""
        dumped = self.dumped
        return dumped is not None and (
            dumped.said < self.said or len(dumped.states) < len(self.audiences)
        )

    def restore(self) -> None:
        """
        Start the dump beside the store that went on, and reconcile them.

        No is forgotten: nobody's opt-out, no deletion, no grant that was revoked. What was
        delivered since stays where the store has it, until a rebuild; but an audience that
        came since is gone.
        """
        assert self.dumped is not None
        dumped = deepcopy(self.dumped)
        for number, audience in enumerate(self.audiences):
            if number >= len(dumped.states):
                audience.state = DELETED
            elif audience.state == ACTIVE:
                audience.state = dumped.states[number]
        self.granted &= dumped.granted
        self.waiting, self.done = dumped.waiting, dumped.done
        for person, account in self.erased - dumped.erased:
            self._erase(self.done, person, account)

    def say_no(self, persons: Iterable[str], account: str, *, erases: bool) -> None:
        for person in persons:
            self.opt_outs.setdefault(person, set()).add(account)
            if not erases:
                continue
            self.erased.add((person, account))
            for held in (self.held, self.done):
                self._erase(held, person, account)

    def has_said_no(self, persons: Iterable[str], account: str, *, erases: bool) -> bool:
        """Return whether all of these persons have said just that before."""
        return all(
            (person, account) in self.erased if erases else account in self.opt_outs.get(person, ())
            for person in persons
        )

    def allowed(self, persons: Sequence[str], publisher: str | None) -> set[tuple[str, str]]:
        """Return what opt-outs leave of what is held: partner and segment, whatever the catalog."""
        return self._shown(persons, publisher, {ACTIVE, DEACTIVATED, DELETED})

    def due(
        self, persons: Sequence[str], publisher: str | None, *, is_named: bool
    ) -> set[tuple[str, str]]:
        """Return what a bid must show: partner and segment."""
        shown = self._shown(persons, publisher, {ACTIVE})
        return {(p, s) for p, s in shown if not is_named or p in self.granted}

    def _shown(
        self, persons: Sequence[str], publisher: str | None, states: set[str]
    ) -> set[tuple[str, str]]:
        told = set[str]().union(*(self.opt_outs.get(person, set()) for person in persons))
        if any(publisher in INVENTORY.get(account, set()) for account in told):
            return set()
        silenced = set[str]().union(*(REACH[account] for account in told))
        held = [self.audiences[n] for person in persons for n in self.held.get(person, ())]
        return {
            (PARTNER_OF[audience.owner], audience.segment)
            for audience in held
            if audience.state in states and audience.owner not in silenced
        }

    def _erase(self, held: dict[str, set[int]], person: str, account: str) -> None:
        held[person] = {
            number
            for number in held.get(person, ())
            if self.audiences[number].owner not in REACH[account]
        }

    def _apply(self, file: File, to: Sequence[dict[str, set[int]]]) -> None:
        for segment, is_add in file.actions:
            number = file.audience
            if number is None:
                number = self.live(file.owner, segment)
            if number is None:
                self.audiences.append(Audience(file.owner, segment))
                number = len(self.audiences) - 1
            for person in file.persons:
                told = self.opt_outs.get(person, set())
                is_refused = any(file.owner in REACH[account] for account in told)
                for held in to:
                    if not is_add:
                        held.setdefault(person, set()).discard(number)
                    elif not is_refused:
                        held.setdefault(person, set()).add(number)
