"""
Uploads: a form with a file, streamed into the blobs, from this page's own origin.

A script sends the form for each file, and shows its progress. The bytes go through the console, so
a bucket needs no CORS rule. A delivery exists once its last byte is kept; a broken upload leaves
nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import PurePosixPath

from aiohttp import BodyPartReader, hdrs, web

from segments.acts.uploads import deliver
from segments.console import faults
from segments.console.application import Page
from segments.console.same_origin import FIELD, is_token_of
from segments.console.visit import Visit, number_of, see_other
from segments.doors.audience_api.upload_body import SILENT_FOR_S, TAKES_AT_MOST_S
from segments.doors.rest.problem import Problem
from segments.files.blobs import delivery_name
from segments.ledger import accounts, quotas
from segments.ledger.audience_list import AudienceFilter, audience_page, listed_audience
from segments.ledger.database.engine import reading
from segments.ledger.pages import MAX_LIMIT
from segments.model.audience import Audience, AudienceState
from segments.model.job import Job
from segments.model.order import SegmentAction
from segments.model.quota import OverQuota
from segments.model.role import Role

_MAX_FIELD_BYTES = 512
_MAX_NAME_CHARS = 256
_CHUNK_BYTES = 256 << 10
_FIELDS = (FIELD, "audience", "action")
_LISTED = (AudienceState.ACTIVE, AudienceState.DEACTIVATED)


def upload_pages() -> list[Page]:
    """Return the pages."""
    return [
        Page("GET", "/upload", show, (Role.PARTNER,)),
        Page("POST", "/upload", receive, (Role.PARTNER,), is_streamed=True),
    ]


async def show(visit: Visit) -> web.Response:
    """Show the form."""
    async with reading(visit.console.services.ledger) as conn:
        partner = await accounts.partner_of(conn, visit.account)
        wanted = AudienceFilter(visit.account, _LISTED)
        page = await audience_page(conn, wanted, limit=MAX_LIMIT)
        chosen = visit.chosen("audience")
        listed = list(page.rows)
        if chosen is not None:
            found = await listed_audience(conn, visit.account, chosen)
            if found is not None and found not in listed:
                listed.insert(0, found)
        at = [each for each in listed if each.audience.id == chosen] or listed[:1]
        owner = await accounts.account(conn, at[0].audience.owner_id) if at else None
    return visit.page(
        "upload.html",
        audiences=listed,
        script_audience=at[0].audience if at else None,
        api_url=visit.console.options.api_url,
        partner=partner,
        owner=owner,
        is_cut=page.next_cursor is not None,
        chosen=chosen,
        max_bytes=visit.console.options.upload_max_bytes,
    )


async def receive(visit: Visit) -> web.StreamResponse:
    """Take a file; the script is answered in JSON."""
    is_script = visit.request.headers.get(hdrs.ACCEPT) == "application/json"
    try:
        job = await _receive(visit)
    except Exception as error:
        if not is_script:
            raise
        page = faults.problem_of(error)
        answer = web.json_response({"error": page.detail}, status=page.status)
        if not visit.request.content.at_eof():
            answer.force_close()
        return answer
    path = f"/deliveries/{job.transaction_id}"
    if is_script:
        return web.json_response({"delivery": path})
    return see_other(path, done="uploaded")


async def _receive(visit: Visit) -> Job:
    request, services = visit.request, visit.console.services
    max_bytes = visit.console.options.upload_max_bytes
    if not request.content_type.startswith("multipart/form-data"):
        raise faults.ForeignForm
    reader = await request.multipart()
    fields: dict[str, str] = {}
    for name in _FIELDS:  # in this order, and before the file
        part = await reader.next()
        if not isinstance(part, BodyPartReader) or part.name != name:
            raise faults.ForeignForm
        fields[name] = (await part.read_chunk(_MAX_FIELD_BYTES)).decode(errors="replace").strip()
        if not part.at_eof() and await part.read_chunk(1):
            raise faults.ForeignForm
        if name == FIELD and not is_token_of(visit.known.token, fields[FIELD]):
            raise faults.ForeignForm
    audience = await _audience(visit, fields["audience"])
    if fields["action"] not in set(SegmentAction):
        raise Problem(400, "Say whether the file adds or removes.")
    announced = request.content_length or 0
    if announced > max_bytes + _CHUNK_BYTES:
        raise Problem(413, f"A file of more than {max_bytes} bytes.")
    async with reading(services.ledger) as conn:
        await quotas.check_delivery(conn, audience.partner_id, announced, visit.now_s)
    services.blobs.check_room(announced)
    file = await reader.next()
    if not isinstance(file, BodyPartReader) or not file.filename:
        raise Problem(400, "Choose a file.")

    blob = delivery_name(audience.partner_id)
    incoming = _Incoming(file, max_bytes, services.clock_s)
    try:
        stored = await services.blobs.put(blob, incoming.chunks())
    except Exception:
        # obstore may wrap an exception of the iterator: raise the original.
        if incoming.fault is not None:
            raise incoming.fault from None
        raise
    try:
        async with services.ledger.begin() as conn:
            return await deliver(
                conn,
                visit.by,
                audience,
                SegmentAction(fields["action"]),
                blob=blob,
                stored=stored,
                file_name=_name(file.filename),
            )
    except OverQuota:
        await services.blobs.delete(blob)
        raise


class _Incoming:
    """A file on its way; `fault`: why it broke off."""

    def __init__(self, part: BodyPartReader, max_bytes: int, clock_s: Callable[[], float]) -> None:
        self._part = part
        self._max_bytes = max_bytes
        self._clock_s = clock_s
        self.fault: Problem | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        size_bytes, give_up_s = 0, self._clock_s() + TAKES_AT_MOST_S
        while chunk := await self._next():
            size_bytes += len(chunk)
            if size_bytes > self._max_bytes:
                raise self._failed(Problem(413, f"A file of more than {self._max_bytes} bytes."))
            if self._clock_s() > give_up_s:
                raise self._failed(Problem(408, f"Not done within {TAKES_AT_MOST_S / 3600:.0f} h."))
            yield chunk
        if not size_bytes:
            raise self._failed(Problem(400, "The file is empty."))

    async def _next(self) -> bytes:
        try:
            async with asyncio.timeout(SILENT_FOR_S):
                return await self._part.read_chunk(_CHUNK_BYTES)
        except TimeoutError:
            fault = Problem(408, f"Nothing came for {SILENT_FOR_S:.0f} s.")
        except Exception as error:  # noqa: BLE001 - a body can break off in many ways
            fault = Problem(400, f"The file broke off ({type(error).__name__}).")
        raise self._failed(fault)

    def _failed(self, fault: Problem) -> Problem:
        self.fault = fault
        return fault


async def _audience(visit: Visit, text: str) -> Audience:
    number = number_of(text)
    if number is None:
        raise Problem(400, "Choose an audience.")
    async with reading(visit.console.services.ledger) as conn:
        found = await listed_audience(conn, visit.account, number)
    if found is None or found.audience.state is AudienceState.DELETED:
        raise faults.Lost
    return found.audience


def _name(given: str) -> str:
    """Return a file's name without folders or unprintable characters."""
    name = PurePosixPath(given.replace("\\", "/")).name[:_MAX_NAME_CHARS]
    return "".join(char if char.isprintable() else "\ufffd" for char in name) or "file"
