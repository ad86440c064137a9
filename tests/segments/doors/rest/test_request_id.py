"""Each answer of the REST doors has an id, which no client chooses."""

import re

from tests.rest import Rest


async def test_each_answer_has_an_id_of_its_own(rest: Rest) -> None:
    theirs = {"X-Request-Id": "person@example.com"}

    answers = [
        await rest.ask("GET", path, headers=theirs)
        for path in ("/health/live", "/openapi.json", "/health/live", "/nothing", "/login")
    ]

    ids = [answer.headers["X-Request-Id"] for answer in answers]
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in ids)
    assert len(set(ids)) == len(ids)
