"""The Privacy API's deprecated doors: requests as signed JWTs."""

import base64
import hmac
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jws
from joserfc.jwk import RSAKey
from sqlalchemy.ext.asyncio import AsyncEngine

from segments.doors.privacy.legacy_door import PIXEL
from segments.ledger.database.engine import open_ledger
from segments.ledger.privacy import keys as privacy_keys
from segments.ledger.privacy.opt_outs import SAME_FOR_S
from segments.model.account import Account
from segments.model.record import EVERYONE, OptOut, OptOutAction, Record
from segments.settings import Settings
from tests.engines import Engine
from tests.refusals import REFUSALS
from tests.rest import Answer
from tests.segments.doors.privacy.privacy_world import (
    ADA,
    BOB,
    REQUESTS,
    PrivacyDoors,
    privacy_world,
)
from tests.segments.doors.rest.rest_world import hashes

DOMAIN, KID = "dailyplanet.com", "key1"
RESTRICTED = Record((OptOut(EVERYONE, OptOutAction.RESTRICT),))
ERASED = Record((OptOut(EVERYONE, OptOutAction.ERASURE),))


def new_key() -> tuple[RSAKey, str]:
    """Return a private key, and its public half as PEM."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return RSAKey.import_key(private), pem.decode()


SIGNING, PUBLIC = new_key()
MANY = hashes(*map(str, range(1001)))


@pytest.fixture
async def ledger(settings: Settings) -> AsyncIterator[AsyncEngine]:
    """On SQLite alone: what differs are queries, which have tests of their own."""
    async with open_ledger(settings.ledger_dsn) as opened:
        yield opened


@pytest.fixture
async def world(
    settings: Settings, ledger: AsyncEngine, valkey: Engine
) -> AsyncIterator[PrivacyDoors]:
    async with privacy_world(settings, ledger, valkey) as world:
        await add_key(world)
        yield world


async def add_key(
    world: PrivacyDoors,
    account: Account | None = None,
    *,
    kid: str = KID,
    is_internal: bool = False,
) -> None:
    async with world.rest.services.ledger.begin() as conn:
        await privacy_keys.add_key(
            conn, DOMAIN, kid, PUBLIC, account, is_internal=is_internal, now_s=0
        )


def claims_of(world: PrivacyDoors, *digests: str, **changed: Any) -> dict[str, Any]:
    """Return claims as LiveIntent's client makes them; `dsr_...` changes those of `dsr`."""
    now_s = int(world.rest.clock())
    dsr = {
        "type": "OBJECT",
        "scope": "US_PRIVACY",
        "identifiers": [{"type": "EMAIL_HASH", "values": list(digests)}],
        "target": "",
    }
    dsr.update({name[4:]: value for name, value in changed.items() if name.startswith("dsr_")})
    claims = {
        "iss": f"CN={DOMAIN}",
        "aud": "privacy-api.liveintent.com",
        "cnf": {"kid": KID},
        "jti": "1",
        "iat": now_s,
        "exp": now_s + 3600,
        "dsr": dsr,
    }
    claims.update({n: v for n, v in changed.items() if not n.startswith("dsr_")})
    return {name: value for name, value in claims.items() if value is not ...}


def signed(claims: Any, key: Any = SIGNING, **header: Any) -> str:
    return jws.serialize_compact({"alg": "RS256", "typ": "JWT", **header}, json.dumps(claims), key)


async def post(world: PrivacyDoors, token: str, path: str = "/dsr") -> Answer:
    return await world.rest.ask("POST", path, {"jwt": token})


async def is_refused(world: PrivacyDoors, token: str) -> bool:
    """Tell whether a JWT is refused at every door, and changes nothing at any."""
    answers = [
        await post(world, token),
        await post(world, token, "/ping"),
        await world.rest.ask("GET", f"/oath?dataSubjectRequest={token}"),
        await world.rest.ask("GET", f"/submit?dsr={token}"),
    ]
    statuses = {answer.status for answer in answers}
    is_told = all(set(a.body) == {"httpStatus", "message", "errorCode"} for a in answers)
    is_untouched = await world.record(ADA) == Record()
    return statuses == {403} and is_told and is_untouched


async def test_object_is_restrict_and_in_force_when_it_is_answered(world: PrivacyDoors) -> None:
    answer = await post(world, signed(claims_of(world, ADA, BOB, ADA.upper())))

    assert answer.status == 200
    assert (answer.body["read"], answer.body["imported"]) == (3, 2)
    assert await world.record(ADA) == await world.record(BOB) == RESTRICTED
    officer = await world.bearer(is_internal=True)
    told = (await officer.ask("GET", f"{REQUESTS}/{answer.body['reference']}")).body
    assert (told["action"], told["jurisdiction"]) == ("RESTRICT", "US_PRIVACY")
    assert told["submitter"] == DOMAIN
    assert sorted(told["emailHashes"]) == sorted([ADA, BOB])


async def test_erasure_deletes(world: PrivacyDoors) -> None:
    await world.add_members(ADA)

    await post(world, signed(claims_of(world, ADA, dsr_type="ERASURE")))

    assert await world.record(ADA) == ERASED


@pytest.mark.parametrize("way", ["/oath?dataSubjectRequest=", "/submit?cb=7&dsr="])
async def test_pixel_is_answered_with_a_pixel(world: PrivacyDoors, way: str) -> None:
    answer = await world.rest.ask("GET", way + signed(claims_of(world, ADA)))

    assert (answer.status, answer.content_type, answer.raw) == (200, "image/gif", PIXEL)
    assert await world.record(ADA) == RESTRICTED


def test_pixel_is_one_transparent_pixel() -> None:
    """
    Read by the grammar of GIF89a: screen 1 x 1, colour 0 transparent, one pixel of it.
    """
    screen, palette, control, image, end = (
        PIXEL[:13], PIXEL[13:19], PIXEL[19:27], PIXEL[27:42], PIXEL[42:],
    )  # fmt: skip
    codes = image[12] | image[13] << 8

    assert screen == b"GIF89a" + b"\1\0\1\0" + b"\x80\0\0"
    assert len(palette) == 6
    assert control == b"\x21\xf9\x04\x01\0\0\0\0"
    assert image[:12] == b"\x2c" + b"\0\0\0\0" + b"\1\0\1\0" + b"\0" + b"\2" + b"\2"
    clear, pixel, stop = codes & 7, codes >> 3 & 7, codes >> 6 & 7
    assert (clear, pixel, stop, image[14]) == (4, 0, 5, 0)
    assert end == b"\x3b"


async def test_ping_changes_nothing(world: PrivacyDoors) -> None:
    token = signed(claims_of(world, dsr_type="PING", dsr_identifiers=[]))

    answers = [await post(world, token, "/ping") for _ in range(2)]
    as_request = await post(world, token)

    assert [answer.status for answer in answers] == [200, 200]
    assert (answers[0].body["read"], answers[0].body["imported"]) == (0, 0)
    assert as_request.status == 400
    async with world.rest.services.ledger.connect() as conn:
        (key,) = await privacy_keys.keys(conn)
    assert key.used_at_s == int(world.rest.clock())
    assert (await post(world, signed(claims_of(world, ADA)), "/ping")).status == 400
    assert await world.record(ADA) == Record()


async def test_key_acts_for_its_account(world: PrivacyDoors) -> None:
    await add_key(world, world.seeded.shop, kid="shop's")

    await post(world, signed(claims_of(world, ADA, cnf={"kid": "shop's"})))

    assert (await world.record(ADA)).opt_outs == (
        OptOut(world.seeded.shop.id, OptOutAction.RESTRICT),
    )


async def test_access_is_for_internal_keys(world: PrivacyDoors) -> None:
    await add_key(world, kid="internal", is_internal=True)
    partners = claims_of(world, ADA, dsr_type="ACCESS")

    refused = await post(world, signed(partners))
    taken = await post(world, signed({**partners, "cnf": {"kid": "internal"}}))

    assert (refused.status, refused.body["errorCode"]) == (403, "INTERNAL_ONLY")
    assert taken.status == 200
    assert await world.count("access_requests") == 1


# ---------------------------------------------------------------- whom we do not trust


async def test_unsigned_is_refused(world: PrivacyDoors) -> None:
    head, body, _ = signed(claims_of(world, ADA)).split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()

    assert await is_refused(world, f"{none}.{body}.")
    assert await is_refused(world, f"{head}.{body}.")


async def test_hmac_made_with_the_public_key_is_refused(world: PrivacyDoors) -> None:
    """
    By hand: no library that is worth its name makes one any more.
    """
    said = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in ({"alg": "HS256"}, claims_of(world, ADA))
    )
    mac = hmac.digest(PUBLIC.encode(), said.encode(), "sha256")

    assert await is_refused(world, f"{said}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}")


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256"])
async def test_other_algorithm_of_the_same_key_is_refused(
    world: PrivacyDoors, algorithm: str
) -> None:
    token = jws.serialize_compact(
        {"alg": algorithm}, json.dumps(claims_of(world, ADA)), SIGNING, algorithms=[algorithm]
    )

    assert await is_refused(world, token)


async def test_signature_of_another_key_is_refused(world: PrivacyDoors) -> None:
    stranger, public = new_key()
    claims = claims_of(world, ADA)
    jwk = RSAKey.import_key(public).as_dict(private=False)

    assert await is_refused(world, signed(claims, stranger))
    assert await is_refused(world, signed(claims, stranger, jwk=jwk)), "brings its own key"


async def test_what_was_changed_is_refused(world: PrivacyDoors) -> None:
    head, _, signature = signed(claims_of(world, BOB)).split(".")
    body = base64.urlsafe_b64encode(json.dumps(claims_of(world, ADA)).encode()).rstrip(b"=")

    assert await is_refused(world, f"{head}.{body.decode()}.{signature}")


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"aud": "elsewhere.example"}, id="another audience"),
        pytest.param({"aud": []}, id="no audience"),
        pytest.param({"aud": ...}, id="audience not said"),
        pytest.param({"exp": 1}, id="expired"),
        pytest.param({"exp": ...}, id="without an end"),
        pytest.param({"exp": 2**52}, id="good for ever"),
        pytest.param({"exp": "tomorrow"}, id="an end that is no time"),
        pytest.param({"iat": 2**40}, id="issued in the future"),
        pytest.param({"iat": ...}, id="issued nobody knows when"),
        pytest.param({"nbf": 2**40}, id="not valid yet"),
        pytest.param({"jti": ...}, id="without a name"),
        pytest.param({"jti": ""}, id="an empty name"),
        pytest.param({"iss": "CN=other.example"}, id="another domain"),
        pytest.param({"iss": DOMAIN}, id="a domain without CN="),
        pytest.param({"iss": "CN="}, id="no domain"),
        pytest.param({"iss": "CN=\0"}, id="no domain that can be asked for"),
        pytest.param({"iss": ...}, id="nobody"),
        pytest.param({"cnf": {"kid": "key2"}}, id="an unknown key"),
        pytest.param({"cnf": ...}, id="no key"),
    ],
)
async def test_jwt_that_is_not_good_here_and_now_is_refused(
    world: PrivacyDoors, changed: dict[str, Any]
) -> None:
    assert await is_refused(world, signed(claims_of(world, ADA, **changed)))


@pytest.mark.parametrize("garbage", ["x", "a.b.c", "..", "é.é.é", "e30.e30.e30", "A" * 5000])
async def test_garbage_is_refused(world: PrivacyDoors, garbage: str) -> None:
    assert (await post(world, garbage)).status == 403
    assert (await post(world, garbage, "/ping")).status == 403


@pytest.mark.parametrize("way", ["/oath", "/submit", "/oath?dsr=x"])
async def test_pixel_without_a_request_is_400(world: PrivacyDoors, way: str) -> None:
    assert (await world.rest.ask("GET", way)).status == 400


async def test_signed_request_with_an_unknown_member_is_refused_by_name(
    world: PrivacyDoors,
) -> None:
    of_dsr = await post(world, signed(claims_of(world, ADA, dsr_identifers=[BOB])))
    of_id = [{"type": "EMAIL_HASH", "values": [ADA], "value": [BOB]}]
    of_identifier = await post(world, signed(claims_of(world, dsr_identifiers=of_id)))

    assert (of_dsr.status, of_identifier.status) == (400, 400)
    assert of_dsr.body["message"] == (
        "the member identifers is not known; the nearest that is known is identifiers,"
        " at $.dsr of the JWT"
    )
    assert "nearest that is known is values, at $.dsr.identifiers" in of_identifier.body["message"]
    assert await world.record(ADA) == Record()


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"dsr_type": "FORGET"}, id="unknown type"),
        pytest.param({"dsr_scope": "MARS"}, id="unknown jurisdiction"),
        pytest.param({"dsr_identifiers": []}, id="nobody"),
        pytest.param({"dsr_identifiers": [{"type": "EMAIL", "values": [BOB]}]}, id="unknown kind"),
        pytest.param(
            {"dsr_identifiers": [{"type": "EMAIL_HASH", "values": [ADA, "x"]}]}, id="no hash"
        ),
        pytest.param(
            {"dsr_identifiers": [{"type": "EMAIL_HASH", "values": MANY}]},
            id="over 1,000",
        ),
        pytest.param({"dsr_target": "a\0b"}, id="a target that can't be kept"),
        pytest.param({"dsr": "OBJECT"}, id="no object"),
    ],
)  # fmt: skip
async def test_signed_request_that_is_wrong_is_400_and_nothing_is_half_done(
    world: PrivacyDoors, changed: dict[str, Any]
) -> None:
    answer = await post(world, signed(claims_of(world, ADA, **changed)))

    assert (answer.status, answer.body["errorCode"]) == (400, "BAD_CLAIMS")
    assert await world.record(ADA) == Record()
    assert await world.count("privacy_jwts") == 0


async def test_jwt_that_expires_this_second_is_refused_and_one_second_earlier_is_not(
    world: PrivacyDoors,
) -> None:
    token = signed(claims_of(world, ADA))
    other = signed(claims_of(world, BOB))
    end_s = int(world.rest.clock()) + 3600

    world.rest.clock.ahead_s += end_s - world.rest.clock() - 1
    before = await post(world, other)
    world.rest.clock.ahead_s += 1

    assert before.status == 200
    assert await is_refused(world, token)


async def test_removed_key_signs_nothing_any_more(world: PrivacyDoors) -> None:
    async with world.rest.services.ledger.begin() as conn:
        await privacy_keys.remove_key(conn, DOMAIN, KID, now_s=0)

    assert await is_refused(world, signed(claims_of(world, ADA)))


# ---------------------------------------------------------------- once


async def test_same_request_is_taken_once_and_answered_alike_for_an_hour(
    world: PrivacyDoors,
) -> None:
    """
    A client that was not answered may ask again; a thief that asks again brings nothing about.
    """
    token = signed(claims_of(world, ADA, exp=int(world.rest.clock()) + 86_400))

    answers = [await post(world, token) for _ in range(2)]
    pixel = await world.rest.ask("GET", f"/submit?dsr={token}")
    world.rest.clock.ahead_s += SAME_FOR_S + 60
    late = await post(world, token)

    assert [answer.status for answer in (*answers, pixel)] == [200, 200, 200]
    assert answers[0].body == answers[1].body
    assert (late.status, late.body["errorCode"]) == (403, "REPLAYED")
    assert await world.count("data_subject_requests") == 1


async def test_same_request_signed_anew_under_its_name_is_the_same(world: PrivacyDoors) -> None:
    first = await post(world, signed(claims_of(world, ADA)))

    again = await post(world, signed(claims_of(world, ADA, iat=1), typ="other"))

    assert again.body == first.body


async def test_same_request_under_another_name_is_the_same_too(world: PrivacyDoors) -> None:
    first = await post(world, signed(claims_of(world, ADA)))

    again = await post(world, signed(claims_of(world, ADA, jti="another")))

    assert again.body == first.body
    assert await world.count("data_subject_requests") == 1


async def test_signed_request_that_is_not_in_force_yet_is_told_so_and_its_jti_is_not_lost(
    settings: Settings, ledger: AsyncEngine, valkey: Engine
) -> None:
    hurried = settings.model_copy(update={"opt_out_wait_s": 0.2})
    async with privacy_world(hurried, ledger, valkey) as world:
        await add_key(world)
        token = signed(claims_of(world, ADA))
        with REFUSALS["OOM"](valkey):
            told = await post(world, token)
            pixels = [
                await world.rest.ask("GET", f"/{path}={token}")
                for path in ("submit?dsr", "oath?dataSubjectRequest")
            ]
        again = await post(world, token)

        assert (told.status, told.body["errorCode"]) == (503, "NOT_IN_FORCE_YET")
        assert [(pixel.status, pixel.raw) for pixel in pixels] == [(503, b"")] * 2
        assert {pixel.headers["Retry-After"] for pixel in pixels} == {"5"}
        assert (again.status, again.body["reference"]) == (200, told.body["transactionId"])
        assert await world.record(ADA) == RESTRICTED


async def test_another_person_under_the_same_name_is_another_request(world: PrivacyDoors) -> None:
    """
    LiveIntent's client gives every line of a file the same `jti`.
    """
    answers = [await post(world, signed(claims_of(world, who))) for who in (ADA, BOB)]

    assert [answer.status for answer in answers] == [200, 200]
    assert await world.record(BOB) == RESTRICTED


async def test_spent_jwts_are_forgotten_once_nobody_would_take_them(world: PrivacyDoors) -> None:
    await post(world, signed(claims_of(world, ADA)))
    world.rest.clock.ahead_s += 3602

    await post(world, signed(claims_of(world, BOB)))

    assert await world.count("privacy_jwts") == 1


async def test_request_that_was_refused_is_not_spent(world: PrivacyDoors) -> None:
    """
    What spends the JWT is the transaction that records the request.
    """
    token = signed(claims_of(world, ADA, dsr_type="ACCESS"))

    answers = [await post(world, token) for _ in range(2)]

    assert {answer.body["errorCode"] for answer in answers} == {"INTERNAL_ONLY"}
    assert await world.count("privacy_jwts") == 0


async def test_refused_jwts_are_written_down(world: PrivacyDoors) -> None:
    await post(world, "garbage")
    await post(world, signed(claims_of(world, ADA, exp=1)))
    token = signed(claims_of(world, ADA, exp=int(world.rest.clock()) + 86_400))
    await post(world, token)
    world.rest.clock.ahead_s += SAME_FOR_S + 60
    await post(world, token)

    told = [
        (entry["actor"], entry.get("actor_name"), entry["what"], entry["result"])
        for entry in await world.trail()
    ]

    key = f"{DOMAIN}/{KID}"
    assert told == [
        ("unknown", None, "authenticate", "refused"),
        ("key", key, "authenticate", "refused"),
        ("key", key, "RESTRICT", "done"),
        ("key", key, "RESTRICT", "refused"),
    ]
