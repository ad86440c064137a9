"""
Whatever happens, in whatever order, no bid shows what somebody forbade, and each shows what is due.

The real service is driven beside a model: files and single hashes of several
partners, opt-outs of every scope, audiences and grants that come and go, a store
that is killed, lost, rebuilt, swept, one that reads and does not write, a door that has
lost it, files that are scrubbed. Between a change of
the catalog and the loader's next look a bid may show an audience that was just
switched off; never one that the person forbade. The ledger is dumped, and the dump is started in
its place: until they are reconciled no bid is enriched, and then nobody's no is forgotten,
nor shown by a number that was given twice.

A run is some 50 steps; `SEGMENTS_MACHINE_SAYS` set prints how many there were.
"""

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from segments.model.audience import AudienceState
from segments.model.identity import id_of_email_hash
from tests.engines import Engine
from tests.refusals import REFUSALS
from tests.stateful.model import (
    ACTIVE,
    DEACTIVATED,
    DELETED,
    EVERYONE,
    OWNERS,
    PUBLISHERS,
    REACH,
    File,
    Model,
)
from tests.stateful.service import HASH_OF, PERSONS, RealService

STEPS = 68
"""At most; hypothesis ends some runs early, and the mean is above 50."""

SHARDS = 4
RUNS_A_SHARD = 10
LONG_RUNS_A_SHARD = 500

owners = st.sampled_from(OWNERS)
segments = st.sampled_from(["1", "2"])
people = st.lists(st.sampled_from(PERSONS), min_size=1, max_size=4, unique=True).map(tuple)
some = st.lists(st.sampled_from(PERSONS), min_size=1, max_size=2, unique=True).map(tuple)
actions = st.dictionaries(segments, st.sampled_from([True, True, True, False]), min_size=1).map(
    lambda chosen: tuple(sorted(chosen.items()))
)
accounts = st.sampled_from([EVERYONE, *sorted(set(REACH) - {EVERYONE})])
rarely = st.integers(0, 3).map(lambda n: n == 0)


class Machine(RuleBasedStateMachine):
    """One run: a fresh ledger, an empty store."""

    real: RealService
    steps = 0
    bids = 0

    @initialize()
    def begin(self) -> None:
        self.model = Model()
        self.is_down = False
        self.is_settled = True
        self.is_behind = False
        self.real.do(self.real.new_run())

    @invariant()
    def count(self) -> None:
        type(self).steps += 1

    is_up = precondition(lambda self: not self.is_down and not self.is_behind)
    is_ours = precondition(lambda self: not self.is_behind)

    @is_ours
    @rule(owner=owners, persons=people, actions=actions)
    def deliver(self, owner: str, persons: tuple[str, ...], actions: Any) -> None:
        self.real.do(self.real.deliver(owner, persons, actions))
        self.model.deliver(File(owner, persons, actions))

    @is_up
    @rule()
    def load(self) -> None:
        self.real.do(self.real.load())
        self.model.load()
        self.is_settled = False

    @is_up
    @rule(owner=owners, persons=people, actions=actions)
    def deliver_and_load(self, owner: str, persons: tuple[str, ...], actions: Any) -> None:
        self.deliver(owner, persons, actions)
        self.load()

    @is_up
    @rule(owner=owners, segment=segments, persons=some, is_add=st.booleans())
    def change_at_once(
        self, owner: str, segment: str, persons: tuple[str, ...], is_add: bool
    ) -> None:
        audience = self.model.live(owner, segment)
        if audience is not None:
            self.real.do(self.real.chunk(owner, persons, segment, is_add=is_add))
            self.model.at_once(File(owner, persons, ((segment, is_add),), audience))

    # Two rules, for hypothesis leaves some rules out of each run, and these seldom both.

    @rule(persons=some, account=accounts, is_rare=rarely)
    def restrict(self, persons: tuple[str, ...], account: str, is_rare: bool) -> None:
        self._say_no(persons, account, erases=False, is_rare=is_rare)

    @rule(persons=some, account=accounts, is_rare=rarely)
    def erase(self, persons: tuple[str, ...], account: str, is_rare: bool) -> None:
        self._say_no(persons, account, erases=True, is_rare=is_rare)

    def _say_no(
        self, persons: tuple[str, ...], account: str, *, erases: bool, is_rare: bool
    ) -> None:
        # Were everybody silent soon, the rest of the run would prove little.
        if account in (EVERYONE, "group") and not is_rare:
            account = "A"
        is_in_store = self.real.do(self.real.say_no(persons, account, erases=erases))
        assert is_in_store != (self.is_down or self.is_behind)
        self.model.say_no(persons, account, erases=erases)

    @is_up
    @rule(
        code=st.sampled_from(sorted(REFUSALS)),
        persons=some,
        account=accounts,
        erases=st.booleans(),
        is_rare=rarely,
    )
    def refuse_writes(
        self, code: str, persons: tuple[str, ...], account: str, erases: bool, is_rare: bool
    ) -> None:
        """
        A new request is not acknowledged, and its persons may be shown; nothing else may.

        A request of the last minutes that is repeated is in force, and is acknowledged.
        """
        if account in (EVERYONE, "group") and not is_rare:
            account = "A"
        is_repeated = self.model.has_said_no(persons, account, erases=erases)
        is_acknowledged, shown_of_each = self.real.do(
            self.real.refuse_writes_and_say_no(code, persons, account, erases=erases)
        )
        assert is_repeated or not is_acknowledged
        for person, shown in zip(PERSONS, shown_of_each, strict=True):
            assert shown <= self.model.allowed((person,), None)
        self.model.say_no(persons, account, erases=erases)
        self._bid_of_everybody_as_it_is()
        self.is_settled = False

    @is_up
    @rule(persons=some, account=accounts, erases=st.booleans(), is_rare=rarely)
    def lose_store_of_a_door(
        self, persons: tuple[str, ...], account: str, erases: bool, is_rare: bool
    ) -> None:
        if account in (EVERYONE, "group") and not is_rare:
            account = "B"
        self.real.do(self.real.say_no_without_store(persons, account, erases=erases))
        self.model.say_no(persons, account, erases=erases)
        self._bid_of_everybody_as_it_is()
        self.is_settled = False

    @is_up
    @rule(owner=owners, segment=segments, moves_window=st.booleans(), is_rare=rarely)
    def withdraw(self, owner: str, segment: str, moves_window: bool, is_rare: bool) -> None:
        """Once that is answered no bid shows it, though no loader has looked."""
        number = self.model.live(owner, segment)
        if number is None or not is_rare:
            return
        audience = self.model.audiences[number]
        state = audience.state
        self.settle()
        if moves_window:
            self.real.do(self.real.move_window(owner, segment, 1))
            audience.state = DEACTIVATED
        else:
            self.real.do(self.real.set_state(owner, segment, AudienceState.DELETED))
            audience.state = DELETED
        self.real.do(self.real.withdraw())
        for person in PERSONS:
            self.bid((person,), None, is_named=False)
        if moves_window:
            self.real.do(self.real.move_window(owner, segment, None))
            audience.state = state
            self.settle()

    def _bid_of_everybody_as_it_is(self) -> None:
        for person in PERSONS:
            _, shown = self.real.do(self.real.bid((person,), None, is_named=False))
            assert shown <= self.model.allowed((person,), None)

    @is_ours
    @rule(owner=owners, segment=segments, state=st.sampled_from([ACTIVE, DEACTIVATED, DELETED]))
    def switch(self, owner: str, segment: str, state: str) -> None:
        audience = self.model.live(owner, segment)
        if audience is not None:
            self.real.do(self.real.set_state(owner, segment, AudienceState(state)))
            self.model.audiences[audience].state = state
            self.is_settled = False

    @is_ours
    @rule(partner=st.sampled_from(["A", "B", "Y"]), is_granted=st.sampled_from([True, True, False]))
    def grant(self, partner: str, is_granted: bool) -> None:
        if not is_granted and partner not in self.model.granted:
            return
        self.real.do(self.real.grant(partner, is_granted=is_granted))
        (self.model.granted.add if is_granted else self.model.granted.discard)(partner)
        self.is_settled = False

    @is_up
    @rule()
    def settle(self) -> None:
        self.real.do(self.real.settle())
        self.is_settled = True

    @is_up
    @rule()
    def sweep(self) -> None:
        self.real.do(self.real.sweep())

    @is_ours
    @rule()
    def scrub(self) -> None:
        kept = self.real.do(self.real.scrub())
        for person, account in self.model.erased:
            spellings = (HASH_OF[person].encode(), id_of_email_hash(HASH_OF[person]))
            for owner in REACH[account]:
                assert not [each for each in spellings if each in kept[owner]]

    @is_up
    @rule(is_rare=rarely)
    def lose_store_and_rebuild(self, is_rare: bool) -> None:
        if is_rare:
            self.real.do(self.real.rebuild())
            self.model.rebuild()
            self.settle()

    @is_ours
    @rule()
    def dump(self) -> None:
        self.real.do(self.real.dump())
        self.model.dump()

    @precondition(lambda self: not self.is_down and not self.is_behind and self.model.dumped)
    @rule(new_audiences=st.sampled_from([0, 0, 1, 2, 3]))
    def restore(self, new_audiences: int) -> None:
        """
        The backup is started where the ledger was; the store knows more than it does.

        Also when it has made as many audiences as were lost, before it met the store.
        """
        self.settle()
        was_behind = self.model.is_dump_behind
        self.is_behind = self.real.do(self.real.restore(new_audiences))
        assert self.is_behind or not was_behind
        self.model.restore()
        self.is_settled = False

    @is_up
    @rule(owner=owners, persons=people, actions=actions, is_rare=rarely)
    def lose_a_delivery(
        self, owner: str, persons: tuple[str, ...], actions: Any, is_rare: bool
    ) -> None:
        """Nothing else is lost, and the backup gives the numbers of its audiences to others."""
        if is_rare:
            self.dump()
            before = len(self.model.audiences)
            self.deliver_and_load(owner, persons, actions)
            self.restore(len(self.model.audiences) - before)

    @precondition(lambda self: self.is_behind)
    @rule(rebuilds=rarely)
    def reconcile(self, rebuilds: bool) -> None:
        self.real.do(self.real.reconcile())
        self.is_behind = False
        if rebuilds:
            self.real.do(self.real.rebuild_in_place())
            self.model.rebuild()
        self.settle()

    @is_up
    @rule(is_rare=rarely)
    def kill_store(self, is_rare: bool) -> None:
        if is_rare:
            self.real.do(self.real.kill_store())
            self.is_down = True

    @precondition(lambda self: self.is_down)
    @rule()
    def start_store(self) -> None:
        """It is back with the data that it had, and no loader has looked yet."""
        self.real.do(self.real.start_store())
        self.is_down = False
        for person in PERSONS:
            _, shown = self.real.do(self.real.bid((person,), None, is_named=False))
            assert shown <= self.model.allowed((person,), None)
        self.settle()

    @rule(
        persons=some,
        publisher=st.sampled_from([*PUBLISHERS, None, None]),
        is_named=st.booleans(),
    )
    def bid(self, persons: tuple[str, ...], publisher: str | None, is_named: bool) -> None:
        type(self).bids += 1
        outcome, shown = self.real.do(self.real.bid(persons, publisher, is_named=is_named))
        if self.is_settled and not self.is_down and outcome == "store_down":
            self.real.do(self.real.until_up())
            outcome, shown = self.real.do(self.real.bid(persons, publisher, is_named=is_named))
        if self.is_down or self.is_behind:
            assert shown == set()
            assert outcome == "store_down" or not self.is_behind
            return
        assert shown <= self.model.allowed(persons, publisher)
        if self.is_settled:
            assert outcome != "store_down"
            assert shown == self.model.due(persons, publisher, is_named=is_named)

    @is_up
    @rule()
    def bid_of_everybody(self) -> None:
        self.settle()
        for person in PERSONS:
            self.bid((person,), None, is_named=False)

    def teardown(self) -> None:
        if getattr(self, "is_down", False):
            self.real.do(self.real.start_store())


@pytest.fixture
def machine() -> Iterator[type[Machine]]:
    """The machine, with a store process and a worker of its own."""
    engine = Engine("valkey")
    engine.start()
    real = RealService(engine)
    yield type("Machine", (Machine,), {"real": real})
    real.close()
    engine.remove()


def drive(machine: type[Machine], runs: int) -> None:
    began_s = time.monotonic()
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=runs,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    if "SEGMENTS_MACHINE_SAYS" in os.environ:
        took_s = time.monotonic() - began_s
        print(f"{runs} runs, {machine.steps} steps, {machine.bids} bids, {took_s:.0f} s")  # noqa: T201


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("shard", range(SHARDS))
def test_no_forbidden_segment_is_ever_shown_and_every_due_one_is(
    machine: type[Machine], shard: int
) -> None:
    drive(machine, RUNS_A_SHARD)


@pytest.mark.long
@pytest.mark.timeout(36_000)
@pytest.mark.parametrize("shard", range(SHARDS))
def test_nor_in_two_thousand_runs(machine: type[Machine], shard: int) -> None:
    drive(machine, LONG_RUNS_A_SHARD)
