"""
digitalAudience's login: a password for a cookie.

    POST /account/login    {userName, password} -> data: true, and the cookie
    POST /account/logout   ends the session, and so every copy of the cookie

From the vendor's page "Create CRM audience"; the document in hand shows only the cookie.
All doors share the users, and their counts of failed logins.
"""

from aiohttp import web

from segments.doors.crm_audience.base import CrmDoor, answered
from segments.doors.crm_audience.schemas import Envelope, LoginForm
from segments.doors.rest.door import operation
from segments.doors.rest.logins import Logins
from segments.doors.rest.other_sites import refuse_other_sites
from segments.doors.rest.services import Services
from segments.doors.rest.session_cookie import SessionCookie


class CrmLoginDoor(CrmDoor):
    """Passwords to cookies, as in digitalAudience's REST API."""

    tag = "CRM login"

    def __init__(self, services: Services, cookie: SessionCookie, logins: Logins) -> None:
        self._services = services
        self._cookie = cookie
        self._logins = logins

    @operation("POST", "/account/login", answers={200: Envelope[bool]}, problems=(401, 403, 429))
    async def login(self, *, body: LoginForm, request: web.Request) -> web.Response:
        """
        Log in. The answer sets the cookie that the other operations need.

        It holds for `SEGMENTS_API_TOKEN_S`; then log in again.
        """
        refuse_other_sites(request)  # another site could log a user in as someone else
        options = self._services.options
        session = await self._logins.begin_session(
            body.userName,
            body.password,
            self._services.source_of(request),
            for_s=options.token_s,
        )
        answer = _yes()
        self._cookie.give(
            answer,
            session,
            max_age_s=options.token_s,
            # After a proxy that ends TLS, only the public URL shows https.
            secure=(options.public_url or str(request.url)).startswith("https:"),
        )
        return answer

    @operation("POST", "/account/logout", answers={200: Envelope[bool]}, problems=(403,))
    async def logout(self, *, request: web.Request) -> web.Response:
        """
        Log out: the cookie and its copies are invalid from now on.

        A request without a cookie, or with an invalid one, gets the same answer.
        """
        refuse_other_sites(request)
        answer = _yes()
        await self._cookie.take(request, answer)
        return answer


def _yes() -> web.Response:
    return web.Response(text=answered(True).model_dump_json(), content_type="application/json")
