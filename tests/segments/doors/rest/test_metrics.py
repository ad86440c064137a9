"""What is counted of the REST doors, and that no person is named by it."""

from prometheus_client import generate_latest

from tests.ledger_seed import Seeded
from tests.rest import Rest

BOB = "bob@shop.example"


def counted(rest: Rest, name: str, **labels: str) -> float | None:
    return rest.services.metrics.registry.get_sample_value(name, labels)


async def test_operation_is_counted_by_its_door_and_how_it_ended(
    rest: Rest, seeded: Seeded
) -> None:
    await rest.user(BOB, seeded.shop)

    await rest.login(BOB)
    await rest.login(BOB, "wrong, and long enough")
    await rest.ask("POST", "/login", {"username": BOB})

    which = {"door": "Login", "operation": "login"}
    assert counted(rest, "segments_api_requests_total", **which, status="2xx") == 1
    assert counted(rest, "segments_api_requests_total", **which, status="4xx") == 2
    assert counted(rest, "segments_api_refusals_total", **which, reason="not_authenticated") == 1
    assert counted(rest, "segments_api_seconds_count", **which) == 3
    assert counted(rest, "segments_api_in_flight") == 0


async def test_guessers_are_counted_apart(rest: Rest) -> None:
    answers = [await rest.login("nobody", "wrong, and long enough") for _ in range(6)]

    assert [answer.status for answer in answers] == [401] * 5 + [429]
    which = {"door": "Login", "operation": "login"}
    assert counted(rest, "segments_api_refusals_total", **which, reason="throttled") == 1


async def test_bytes_of_an_upload_are_counted(rest: Rest, seeded: Seeded) -> None:
    async with rest.acting_for(seeded.shop) as shop:
        form = {"filename": "a.txt", "action": "add", "type": "sha2"}
        presigned = await shop.ask("POST", "/audience/upload/123", form)
        url = presigned.body["output"]["presignedURI"]

        assert (await shop.ask("PUT", url, data=b"x" * 100_000)).status == 200

    which = {"door": "Audience API", "operation": "upload"}
    assert counted(rest, "segments_api_received_bytes_total", **which) == 100_000


async def test_what_no_door_has_is_counted_together(rest: Rest) -> None:
    await rest.ask("GET", "/wp-admin/secret-path")

    none = {"door": "none", "operation": "none"}
    assert counted(rest, "segments_api_requests_total", **none, status="4xx") == 1
    assert b"secret-path" not in generate_latest(rest.services.metrics.registry)


async def test_no_metric_names_anybody(rest: Rest, seeded: Seeded) -> None:
    async with rest.acting_for(seeded.shop) as shop:
        form = {"filename": "planted-name.txt", "action": "add", "type": "sha2"}
        await shop.ask("POST", "/audience/upload/123", form)
        await rest.login("planted-user", "planted password")

    shown = generate_latest(rest.services.metrics.registry)

    for planted in (b"planted", b"127.0.0.1", b"shop", b'"123"'):
        assert planted not in shown
