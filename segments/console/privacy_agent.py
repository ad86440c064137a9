"""
The privacy desk: a member of staff as an agent of the Privacy API.

`segments.doors.privacy.submission` has the rules of requests. A desk of an account sees and does
what an internal token of that account may.
"""

from segments.acts.staff import who_is
from segments.console.visit import Visit
from segments.doors.privacy.agent import Agent, SwitchedOff, active_account
from segments.doors.rest.problem import Problem
from segments.ledger.database.engine import reading
from segments.model.account import AccountTree


async def agent_of(visit: Visit) -> Agent:
    """
    Return a desk as an agent of the Privacy API.

    Raises:
        Problem: 403: the account that it acts for is switched off.
    """
    person = visit.known.person
    try:
        async with reading(visit.console.services.ledger) as conn:
            account = await active_account(conn, person.account_id)
    except SwitchedOff:
        raise Problem(403, "The account that you act for is switched off.") from None
    return Agent(who_is(person), account, is_internal=True)


def visible_to(agent: Agent, tree: AccountTree) -> frozenset[int] | None:
    """Return the accounts whose requests a desk sees; `None`: all, global ones too."""
    return None if agent.account is None else tree.within(agent.account.id)
