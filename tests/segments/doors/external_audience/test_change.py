"""What of an external audience can be changed, and how a customer learns what can't."""

from typing import Any

import pytest

from tests.rest import Answer
from tests.segments.doors.external_audience.external_world import BASE, FIELDS, External


async def change(external: External, audience_id: str, said: Any) -> Answer:
    return await external.rest.ask("PATCH", f"{BASE}/{audience_id}", said)


async def test_change_answers_the_name_as_runs_and_as_the_reference_spell_it(
    external: External,
) -> None:
    audience_id = await external.create()

    changed = await change(external, audience_id, {"description": "New"})

    assert changed.body["audienceName"] == changed.body["name"] == "Sample external audience"


async def test_answer_can_be_sent_back_with_what_is_to_change(external: External) -> None:
    audience_id = await external.create(customAudienceId="c-1", tags=["t"])
    before = (await change(external, audience_id, {"description": "Old"})).body

    changed = await change(external, audience_id, {**before, "description": "New"})

    assert changed.status == 200, changed
    assert changed.body == {**before, "description": "New"}


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("audienceName", "Renamed"),
        ("name", "Renamed"),
        ("namespace", "Other"),
        ("sourceSpec", {"path": "other", "type": "folder"}),
        ("customAudienceId", "c-2"),
    ],
)
async def test_what_cannot_be_changed_is_named_with_what_can(
    external: External, member: str, value: Any
) -> None:
    audience_id = await external.create()

    refused = await change(external, audience_id, {member: value, "description": "New"})

    sentence = "can't be changed; description, labels, fields and ttlInDays can"
    assert (refused.status, refused.body["errorCode"]) == (400, "100910-400")
    assert refused.body["detail"] == f"body /{member}: {sentence}"
    assert refused.body["errors"] == [{"in": "body", "pointer": f"/{member}", "detail": sentence}]
    now = await change(external, audience_id, {"ttlInDays": 9})
    assert now.body["description"] == "A sample"


async def test_member_that_is_not_known_is_told_with_the_nearest_that_is(
    external: External,
) -> None:
    audience_id = await external.create()

    refused = await change(external, audience_id, {"descripton": "New"})

    assert refused.body["detail"] == (
        "body: the member descripton is not known; the nearest that is known is description"
    )


async def test_null_clears_what_may_be_left_out(external: External) -> None:
    audience_id = await external.create()
    labelled = {"name": "list_id", "labels": None}

    changed = await change(
        external, audience_id, {"description": None, "labels": None, "fields": [labelled]}
    )

    assert changed.status == 200
    assert "description" not in changed.body
    assert "labels" not in changed.body
    assert changed.body["fields"] == [FIELDS[0], {"name": "list_id", "type": "string"}]


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({"ttlInDays": None}, id="a number of days"),
        pytest.param({"fields": None}, id="fields"),
        pytest.param({"fields": [{"name": "mail", "type": None}]}, id="the type of a field"),
        pytest.param({"fields": [{"name": "mail", "identityNs": None}]}, id="what identifies"),
    ],
)
async def test_null_is_refused_where_something_must_be(external: External, said: Any) -> None:
    audience_id = await external.create()

    refused = await change(external, audience_id, said)

    assert refused.status in (400, 422)
