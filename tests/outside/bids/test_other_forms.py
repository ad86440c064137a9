"""
What went wrong with the like of what else is asked (a query with ids, gzip bodies), by public
reports, tried on ours.

Each test names the report by its URL.
"""

import gzip
import json
from typing import Any

import pytest

from tests.edge.client import Answer, connected, request
from tests.edge.small_store import MEMBER, SHOP_DATA, serving
from tests.engines import Engine
from tests.rtb.consent.strings import gpp_string, tc_string, us_section, vendors

SETTINGS: dict[str, Any] = {
    "targeting": True,
    "targeting_recipients": ("dsp-a",),
    "targeting_gdpr_when_unsaid": False,
    "curation_gdpr_when_unsaid": False,
}
_GPP = gpp_string({7: us_section(7)})


async def _asked(valkey: Engine, query: str) -> Answer:
    url = f"/v2/targeting?t=dsp-a&o=pub-1&id=e%3A{MEMBER}{query}"
    async with (
        serving(valkey.url, **SETTINGS) as service,
        connected(service.port) as client,
    ):
        client.send(request(b"", url, "GET"))
        return await client.answer()


def _data(answer: Answer) -> Any:
    return json.loads(answer.body)["ortb2"]["user"]["data"]


@pytest.mark.parametrize("sid", ["Optional[7]", "Optional%5B7%5D", "Optional%5b7%5d"])
async def test_brackets_in_a_query_are_read_as_they_are_and_encoded(
    valkey: Engine, sid: str
) -> None:
    """
    https://github.com/prebid/prebid-server/issues/3595: strict servers refused them, and Java
    since 20 sends none as they are.
    """
    answer = await _asked(valkey, f"&gpp={_GPP}&gpp_sid={sid}")

    assert (answer.status, _data(answer)) == (200, [SHOP_DATA])


async def test_bytes_of_another_encoding_break_nothing(valkey: Engine) -> None:
    """https://github.com/prebid/Prebid.js/issues/5314: `%ED` of ISO 8859-1 raised."""
    answer = await _asked(valkey, "&bundle=Jacu%ED&id5_signature=%ED%zz%")

    assert (answer.status, _data(answer)) == (200, [SHOP_DATA])


async def test_long_consent_string_fits(valkey: Engine) -> None:
    """
    https://github.com/prebid/Prebid.js/issues/7231: with one, a GET was too long and got 400.

    Publishers' restrictions have no bit field; these take 18,000 characters.
    """
    ranges = [(n, n) for n in range(149, 149 + 2 * 3_000, 2)]
    long = tc_string(consents=vendors([148], as_range=True), restrictions=[(2, 1, ranges)])

    answer = await _asked(valkey, f"&gdpr_consent={long}&gdpr=1")

    assert len(long) > 8_000
    assert (answer.status, _data(answer)) == (200, [SHOP_DATA])


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("&gdpr=&gdpr_consent=&gpp=&gpp_sid=&us_privacy=", id="empty"),
        pytest.param("&gdpr&gdpr_consent&gpp&gpp_sid&coppa=", id="without a value"),
    ],
)
async def test_empty_value_says_nothing(valkey: Engine, query: str) -> None:
    """
    https://github.com/prebid/prebid-server/pull/2546: an endpoint failed on `gdpr=&gdpr_consent=`,
    as every sender writes it whose macro has nothing to say.
    """
    assert _data(await _asked(valkey, query)) == [SHOP_DATA]


@pytest.mark.parametrize("query", ["&gdpr=${GDPR}", "&gdpr={{.GDPR}}", "&gdpr_consent=$%7BX%7D"])
async def test_macro_that_nobody_replaced_is_no_permission(valkey: Engine, query: str) -> None:
    """https://github.com/prebid/prebid-server/pull/2546, the same endpoint, before that."""
    answer = await _asked(valkey, query)

    assert (answer.status, answer.outcome, _data(answer)) == (200, "no_consent", [])


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        pytest.param("/curation/dsp-a?gzip=1", {}, id="said in the URL"),
        pytest.param("/curation/dsp-a", {"Content_Encoding": "gzip"}, id="said in the head"),
        pytest.param("/curation/dsp-a", {"Content_Encoding": "x-gzip"}, id="by its old name"),
    ],
)
async def test_gzip_body_is_read_however_it_is_said(
    valkey: Engine, path: str, headers: dict[str, str]
) -> None:
    """
    https://github.com/prebid/Prebid.js/pull/15264 and
    https://github.com/prebid/prebid-server/pull/4937: servers that looked for one of the two
    signs read the other's bodies as broken JSON.
    """
    eids = [{"source": "liveintent.com", "uids": [{"id": MEMBER}]}]
    body = gzip.compress(json.dumps({"user": {"eids": eids}}).encode())

    async with (
        serving(valkey.url, **SETTINGS) as service,
        connected(service.port) as client,
    ):
        answer = await client.post(body, path, **headers)

    assert json.loads(answer.body) == {"segment": [{"segment_id": "101"}, {"segment_id": "102"}]}


async def test_eids_of_both_places_are_read(valkey: Engine) -> None:
    """
    https://github.com/prebid/prebid-server/issues/4285: `user.ext.eids` were lost where there were
    `user.eids`.
    """
    eids = [{"source": "liveintent.com", "uids": [{"id": MEMBER}]}]
    others = [{"source": "other.example", "uids": [{"id": "x"}]}]
    body = json.dumps({"user": {"eids": others, "ext": {"eids": eids}}}).encode()

    async with (
        serving(valkey.url, **SETTINGS) as service,
        connected(service.port) as client,
    ):
        answer = await client.post(body, "/curation/dsp-a")

    assert answer.outcome == "enriched"
