"""
Logging in and out: partners' users by password, staff by password and code.

    /login         name, password  -> a session; for staff good only for the next step
    /login/code    the code        -> another session, proven; at first with the secret to enrol
    /logout        ends it

A wrong name and a wrong password get the same answer after the same time, and count towards the
throttles of the REST doors' logins.
"""

from aiohttp import hdrs, web

from segments.acts import staff as acts
from segments.console import totp
from segments.console.application import Page
from segments.console.visit import Visit, see_other
from segments.doors.rest.failure_counts import Counted, FailureCounts
from segments.doors.rest.logins import Proof
from segments.doors.rest.problem import Problem
from segments.ledger import console_sessions, throttles, users
from segments.ledger import staff as members
from segments.ledger.database.engine import reading
from segments.ledger.staff import Staff
from segments.ledger.users import User, account_of
from segments.model.role import Role

_HOME = "/"
_STEP_EXPIRED = "That took longer than ten minutes. Log in again."
_WRONG = "No user of that name has that password."
_WRONG_CODE = "That is not the code of this moment. A code works once; wait for the next one."

_STATUS = 403


def login_pages() -> list[Page]:
    """Return the pages."""
    return [
        Page("GET", "/", home),
        Page("GET", "/login", show_login, roles=None),
        Page("POST", "/login", log_in, roles=None),
        Page("GET", "/login/code", show_code, roles=None),
        Page("POST", "/login/code", check_code, roles=None),
        Page("POST", "/logout", log_out),
    ]


async def home(visit: Visit) -> web.Response:
    """Go to the first page of a role."""
    roles = visit.known.roles
    if Role.PARTNER in roles:
        return see_other("/audiences")
    return see_other("/ops" if Role.OPERATOR in roles else "/privacy")


async def show_login(visit: Visit) -> web.Response:
    """Show the form."""
    if visit.visitor is not None:
        return see_other(_HOME)
    return _login_page(visit, visit.request.query.get("next", _HOME))


async def log_in(visit: Visit) -> web.Response:
    """Check a password, and begin a session."""
    services, source = visit.console.services, visit.console.services.source_of(visit.request)
    username = visit.text("username").lower()
    password = visit.form.get("password", "")
    after = _own(visit.text("next"))
    if not username or not isinstance(password, str) or not password:
        return _login_page(visit, after, error="Type a name and a password.")
    person = await _find(visit, username)
    may = person is not None and person.is_active
    try:
        proof = await visit.console.guesses.check(
            username, password, source, person.password_hash if person and may else None
        )
    except Problem as problem:
        return _wait(visit, after, problem)
    if person is None or proof is None:
        if person is not None:
            async with services.ledger.begin() as conn:
                await acts.refuse_login(conn, person, "wrong password", visit.now_s)
        return _login_page(visit, after, error=_WRONG)
    return await _begin(visit, person, proof, after)


async def show_code(visit: Visit) -> web.Response:
    """Ask staff for the code; at the first login show the secret."""
    member, _ = await _pending(visit)
    if member is None:
        return _login_page(visit, _HOME, error=_STEP_EXPIRED)
    return _code_page(visit, member, _own(visit.request.query.get("next", "")))


async def check_code(visit: Visit) -> web.Response:
    """Check the code, and begin a proven session."""
    services, now_s = visit.console.services, visit.now_s
    after = _own(visit.text("next"))
    member, session = await _pending(visit)
    if member is None or session is None or member.totp_secret is None:
        return _login_page(visit, after, error=_STEP_EXPIRED)
    failures = FailureCounts(services.ledger)
    counted = [Counted("totp", member.username, totp.TRIES)]
    wait_s = await failures.count(counted, now_s)
    if wait_s:
        return _code_page(visit, member, after, error=f"Too many tries: again in {wait_s} s.")
    step = totp.step_of(member.totp_secret, visit.text("code"), now_s)
    async with services.ledger.begin() as conn:
        if step is None or not await members.use_step(conn, member, step):
            await acts.refuse_login(conn, member, "wrong code", now_s)
            token = None
        else:
            await throttles.forget(conn, *counted[0][:2])
            await console_sessions.end(conn, session)
            token = await acts.log_in(conn, member, is_proven=True, now_s=now_s)
    if token is None:
        return _code_page(visit, member, after, error=_WRONG_CODE)
    answer = see_other(after)
    visit.console.cookie.give(answer, token)
    return answer


async def log_out(visit: Visit) -> web.Response:
    """End the session."""
    known = visit.known
    async with visit.console.services.ledger.begin() as conn:
        await acts.log_out(conn, visit.by, known.session, known.person)
    answer = see_other("/login", done="logout")
    visit.console.cookie.take(answer)
    # Not its cookies: those of our other ports are of the same host.
    answer.headers["Clear-Site-Data"] = '"cache", "storage"'
    return answer


async def _find(visit: Visit, username: str) -> User | Staff | None:
    """Return a person whom this port serves."""
    roles = visit.console.roles
    async with reading(visit.console.services.ledger) as conn:
        member = await members.find_staff(conn, username)
        if member is not None:
            return member if member.roles & roles else None
        user = await users.find_user(conn, username) if Role.PARTNER in roles else None
        return None if user is None or await account_of(conn, user) is None else user


async def _begin(visit: Visit, person: User | Staff, proof: Proof, after: str) -> web.Response:
    is_proven = not isinstance(person, Staff)
    async with visit.console.services.ledger.begin() as conn:
        await visit.console.guesses.settle(conn, proof)
        if isinstance(person, Staff):
            if person.totp_secret is None:
                await members.draw_secret(conn, person, totp.new_secret())
            if proof.new_hash is not None:
                await members.renew_hash(conn, person, proof.new_hash)
        elif proof.new_hash is not None:
            await users.renew_hash(conn, person, proof.new_hash)
        token = await acts.log_in(conn, person, is_proven=is_proven, now_s=visit.now_s)
    answer = see_other(after) if is_proven else see_other("/login/code", next=after)
    visit.console.cookie.give(answer, token)
    return answer


async def _pending(
    visit: Visit,
) -> tuple[Staff | None, console_sessions.ConsoleSession | None]:
    """Return the member who gave the right password, and the session that waits for the code."""
    token = visit.console.cookie.read(visit.request)
    if token is None:
        return None, None
    async with reading(visit.console.services.ledger) as conn:
        session = await console_sessions.find(conn, token, now_s=visit.now_s)
        if session is None or session.staff_id is None or session.proven_at_s is not None:
            return None, None
        member = await members.staff_of_id(conn, session.staff_id)
    is_here = member is not None and member.is_active and member.roles & visit.console.roles
    return (member, session) if is_here else (None, None)


def _login_page(visit: Visit, after: str, *, error: str = "") -> web.Response:
    status = _STATUS if error else 200
    return visit.page("login.html", status=status, error=error, next=_own(after), again_s=0)


def _wait(visit: Visit, after: str, problem: Problem) -> web.Response:
    again = problem.headers.get(hdrs.RETRY_AFTER, "30")
    error = f"Too many tries: again in {again} s."
    answer = visit.page("login.html", status=problem.status, error=error, next=after)
    answer.headers.update(problem.headers)
    return answer


def _code_page(visit: Visit, member: Staff, after: str, *, error: str = "") -> web.Response:
    secret = "" if member.is_enrolled else member.totp_secret or ""
    return visit.page(
        "code.html",
        status=_STATUS if error else 200,
        error=error,
        next=after,
        secret=secret,
        picture=totp.picture(secret, member.username) if secret else "",
        uri=totp.uri(secret, member.username) if secret else "",
    )


def _own(path: str) -> str:
    """Return a path of ours to go on to; else the first page."""
    is_own = path.startswith("/") and not path.startswith("//") and "\\" not in path
    return path if is_own and path.isprintable() else _HOME
