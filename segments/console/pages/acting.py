"""Shared by the acts of several pages: the wait until they are in force, and the repeated code."""

from http import HTTPStatus

from segments.console import totp
from segments.console.visit import PROVEN_FOR_S, Visit
from segments.doors.rest.failure_counts import Counted, FailureCounts
from segments.doors.rest.not_in_force import NotInForceYet
from segments.doors.rest.problem import Problem
from segments.ledger import console_sessions, throttles
from segments.ledger import staff as members
from segments.ledger.staff import Staff

_WRONG_CODE = "That is not the code of this moment. A code works once: wait for the next one."
_NO_CODE = "Your code is needed for this: you were asked for it more than 5 minutes ago."


async def withdrawn(visit: Visit, done: str) -> str:
    """Wait until no bid shows the withdrawn data; return the next page's message."""
    try:
        await visit.console.services.withdraw_from_bids()
    except NotInForceYet:
        return "recorded"
    return done


def asks_again(visit: Visit) -> bool:
    """Tell whether an act of staff needs a code: the last proof is too old."""
    proven_at_s = visit.known.session.proven_at_s or 0
    return visit.known.is_staff and abs(visit.now_s - proven_at_s) > PROVEN_FOR_S


async def wrong_code(visit: Visit) -> str:
    """
    Check as `check_again` does; return a message for the form, empty if the code is right.

    Raises:
        Problem: 429: too many were wrong.
    """
    try:
        await check_again(visit)
    except Problem as problem:
        if problem.status != HTTPStatus.FORBIDDEN:
            raise
        return _WRONG_CODE if visit.text("code") else _NO_CODE
    return ""


async def check_again(visit: Visit) -> None:
    """
    Check the code of an act that asks for it again.

    Raises:
        Problem: 403: the code is wrong. 429: too many were wrong.
    """
    person, now_s = visit.known.person, visit.now_s
    if not asks_again(visit) or not isinstance(person, Staff):
        return
    failures = FailureCounts(visit.console.services.ledger)
    counted = [Counted("totp", person.username, totp.TRIES)]
    wait_s = await failures.count(counted, now_s)
    if wait_s:
        raise Problem(429, "too many wrong codes", headers={"Retry-After": str(wait_s)})
    step = totp.step_of(person.totp_secret or "", visit.text("code"), now_s)
    async with visit.console.services.ledger.begin() as conn:
        is_right = step is not None and await members.use_step(conn, person, step)
        if is_right:
            await throttles.forget(conn, *counted[0][:2])
            await console_sessions.prove(conn, visit.known.session, now_s=now_s)
    if not is_right:
        raise Problem(
            403,
            "That is not the code of this moment. A code works once: wait for the next one, go"
            " back, and try again. Nothing was changed.",
        )
