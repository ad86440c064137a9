"""LiveAudience's metadata: an order, or a stop that has one of the vendor's codes."""

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager

from segments.doors.live_audience.codes import DESCRIPTIONS, code_of
from segments.doors.live_audience.metadata import Metadata
from segments.doors.live_audience.rules import data_files, read, said_name
from tests.fuzz.files import CANARY, quotes_nothing
from tests.fuzz.forms import json_splice
from tests.fuzz.target import Check, Target
from tests.segments.ingest.deliveries import PARTNER_ID, as_json, metadata_of

_FOLDER = ("people.txt", "people.txt.gz", "PEOPLE.ZIP", "x.json")


@contextmanager
def _checking() -> Iterator[Check]:
    def check(data: bytes) -> Hashable:
        name = said_name(data, "people.txt")
        assert name
        assert set(data_files(name, _FOLDER)) <= set(_FOLDER)
        metadata, refused = read(data, PARTNER_ID)
        if metadata is not None:
            order = metadata.order()
            assert order.segments, "an order of nothing"
            kept = Metadata.model_validate(metadata.as_kept())
            assert kept == metadata, "what the ledger keeps is another"
        if refused is None:
            return "an order", metadata is not None and metadata.sub_id is not None
        assert DESCRIPTIONS[code_of(refused.reason)]
        reason, words = quotes_nothing(refused)
        return reason, words.partition(":")[0]

    yield check


def _seeds() -> Sequence[bytes]:
    plain = metadata_of(b"x\n", records=1)
    canary = CANARY.decode()
    return [
        as_json(plain),
        as_json({**plain, "sub_id": "s", "callback_url": "https://example.com/back?x=1"}),
        as_json(
            {**plain, "sub_id": 7, "segments": [{"id": 1, "name": "n", "action": "remove"}] * 3}
        ),
        as_json({**plain, "partner_id": canary}),
        as_json({**plain, "callback_url": f"ftp://{canary}/"}),
        as_json({**plain, "file": {**plain["file"], "name": f"a/{canary}", "date": canary}}),
        as_json({**plain, "segments": [{"id": canary * 9, "name": "", "action": canary}]}),
        b"\xef\xbb\xbf" + as_json(plain),
        as_json(plain).decode().encode("utf-16"),
        as_json(plain).decode().encode("utf-32"),
        as_json({**plain, "file": canary}),
    ]


TARGETS = (
    Target(
        "metadata", _seeds, _checking, (json_splice, json_splice),
        (b"null", b'"segments"', b'"file"', b'"partner_id"', b"\xff\xfe", b"\0", CANARY, b"[]"),
        ("segments/doors/live_audience/", "segments/runtime/"), 6_000, 30.0,
    ),
)  # fmt: skip
