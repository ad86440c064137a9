"""Ids that are marked as coming or leaving, from the blob into the spool."""

from pathlib import Path

import pytest

from segments.files.blobs import Blobs
from segments.ingest.external_audience.delta import HEADER, delta_of
from segments.ingest.file_kinds import parser_of_kept
from segments.ingest.read import Reading
from segments.ingest.spool import PARTS, Spool
from segments.model.identity import ID_BYTES, Id
from segments.model.order import Order


@pytest.mark.parametrize(
    "byte",
    [
        pytest.param(b"\r", id="as an old Mac's line end"),
        pytest.param(b"\n", id="as a line end"),
        pytest.param(b"\x00", id="as half a letter of UTF-16"),
        pytest.param(b"\xff", id="as no UTF-8"),
    ],
)
async def test_byte_of_an_id_is_never_taken_for_text(
    blobs: Blobs, tmp_path: Path, byte: bytes
) -> None:
    ids = [Id(byte * ID_BYTES)] * 100
    await blobs.put("run", [HEADER + delta_of([ids], [False] * len(ids))])
    order = Order((), run_id="r")

    with Spool(tmp_path) as spool:
        Reading(blobs, "run", order, spool, lambda _: parser_of_kept(order)).run()
        read = spool.gather(0, PARTS)

    assert [bytes(id_) for id_ in read] == [byte * (ID_BYTES - 1) + b"\x00"] * 100
