"""Every page and every act, by each role: which roles are served, and which are refused."""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from segments.console.same_origin import SAFE
from segments.model.role import Role
from segments.processes.console import pages
from tests.console import Browser, Served
from tests.ledger_seed import Seeded

EVERYBODY = "partner operator privacy"

PATH_TO_ROLES = {
    "/": EVERYBODY,
    "/account": EVERYBODY,
    "/account/password": EVERYBODY,
    "/account/time-zone": EVERYBODY,
    "/logout": EVERYBODY,
    "/audiences": "partner",
    "/audiences/new": "partner",
    "/audiences/{no:[0-9]{1,18}}": "partner",
    "/audiences/{no:[0-9]{1,18}}/rename": "partner",
    "/audiences/{no:[0-9]{1,18}}/ttl": "partner",
    "/audiences/{no:[0-9]{1,18}}/activate": "partner",
    "/audiences/{no:[0-9]{1,18}}/deactivate": "partner",
    "/audiences/{no:[0-9]{1,18}}/delete": "partner",
    "/audiences/{no:[0-9]{1,18}}/window": "partner",
    "/audiences/{no:[0-9]{1,18}}/activation": "partner",
    "/audiences/{no:[0-9]{1,18}}/activation/end": "partner",
    "/deliveries": "partner",
    "/deliveries/{transaction}": "partner",
    "/audiences.csv": "partner",
    "/deliveries.csv": "partner",
    "/deliveries/{transaction}/report.json": "partner",
    "/deliveries/{transaction}/bad-lines.csv": "partner",
    "/deliveries/{transaction}/status": "partner",
    "/ops/deliveries.csv": "operator",
    "/ops/deliveries/{transaction}/report.json": "operator",
    "/ops/deliveries/{transaction}/bad-lines.csv": "operator",
    "/ops/deliveries/{transaction}/status": "operator",
    "/upload": "partner",
    "/keys": "partner",
    "/keys/remove": "partner",
    "/keys/revoke": "partner",
    "/logins": "partner",
    "/logins/{user}/password": "partner",
    "/logins/{user}/end": "partner",
    "/logins/{user}/revoke": "partner",
    "/ops": "operator",
    "/ops/checks": "operator",
    "/ops/deliveries": "operator",
    "/ops/deliveries/{transaction}": "operator",
    "/ops/deliveries/{transaction}/release": "operator",
    "/ops/deliveries/{transaction}/refuse": "operator",
    "/ops/playground": "operator",
    "/ops/recipients": "operator",
    "/ops/recipients/{name}": "operator",
    "/ops/recipients/{name}/grant": "operator",
    "/ops/recipients/{name}/revoke": "operator",
    "/ops/recipients/{name}/hold-out": "operator",
    "/ops/recipients/{name}/activate": "operator",
    "/ops/recipients/{name}/deactivate": "operator",
    "/ops/audit": "operator",
    "/ops/audit.csv": "operator",
    "/ops/partners": "operator",
    "/ops/partners/{partner}": "operator",
    "/ops/partners/{partner}/activate": "operator",
    "/ops/partners/{partner}/deactivate": "operator",
    "/ops/partners/{partner}/relate": "operator",
    "/ops/partners/{partner}/unrelate": "operator",
    "/privacy": "privacy",
    "/privacy/look-up": "privacy",
    "/privacy/requests/{transaction}": "privacy",
    "/privacy/requests/{transaction}/report": "privacy",
    "/privacy/trail": "privacy",
    "/privacy/trail.csv": "privacy",
    "/privacy/keys": "privacy",
    "/privacy/keys/token": "privacy",
    "/privacy/keys/token/revoke": "privacy",
    "/privacy/keys/key": "privacy",
    "/privacy/keys/key/remove": "privacy",
}
"""Of each page that takes a login. A page that is missing here fails below."""

OPEN = {"/login", "/login/code"}


@asynccontextmanager
async def one_of_each(console: Served, seeded: Seeded) -> AsyncIterator[dict[str, Browser]]:
    async with AsyncExitStack() as stack:
        yield {
            "partner": await stack.enter_async_context(console.user_of(seeded.shop)),
            "operator": await stack.enter_async_context(console.staff_of(Role.OPERATOR)),
            "privacy": await stack.enter_async_context(console.staff_of(Role.PRIVACY)),
        }


def test_every_page_is_in_the_table() -> None:
    assert {page.path for page in pages()} == set(PATH_TO_ROLES) | OPEN
    assert {page.path for page in pages() if page.roles is None} == OPEN


async def test_a_page_is_shown_to_its_roles_and_no_act_without_a_token(
    console: Served, seeded: Seeded
) -> None:
    async with one_of_each(console, seeded) as role_to_browser, console.browser() as stranger:
        for page in pages():
            if page.path in OPEN:
                continue
            path = re.sub(r"\{no:.*?\}\}", "1", page.path)
            path = path.replace("{", "").replace("}", "")
            is_act = page.method not in SAFE
            refused = await stranger.ask(page.method, path)
            assert refused.status == (403 if is_act else 303), page
            assert is_act or refused.location.startswith("/login"), page
            for role, browser in role_to_browser.items():
                answer = await browser.ask(page.method, path, data={} if is_act else None)
                may = role in PATH_TO_ROLES[page.path].split()
                if not may:
                    assert answer.status == 403, (page, role)
                    assert "This page is for" in answer.said
                elif is_act:
                    assert answer.status == 403, (page, role)
                    assert "was not sent by a page" in answer.said
                else:
                    assert answer.status in {200, 303, 404}, (page, role)
