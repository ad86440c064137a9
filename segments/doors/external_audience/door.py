"""
Adobe's external audiences endpoint: audiences from files in a customer's own storage.

    POST   /core/ais/external-audience/                       begins to create an audience
    GET    /core/ais/external-audiences/operations/{id}       progress of the creation
    PATCH  /core/ais/external-audience/{audienceId}           description, labels, ttlInDays
    POST   /core/ais/external-audience/{audienceId}/runs      ingests files
    GET    /core/ais/external-audience/{audienceId}/runs      the ingestions
    GET    /core/ais/external-audience/{audienceId}/runs/{id} progress of an ingestion
    DELETE /core/ais/external-audience/{audienceId}           the next bid does not show it

Also under `/data/core/ais`. `external-audience` and `external-audiences` are the same, a
trailing slash is ignored, and `/run`, from the vendor's own examples, means `/runs`.
"""

from collections.abc import Sequence
from contextlib import suppress

from aiohttp import web
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncConnection

from segments.doors.external_audience import runs
from segments.doors.external_audience.access import (
    ExternalProblem,
    SandboxCaller,
    SandboxCredentials,
    external_problem,
)
from segments.doors.external_audience.creation import Creations
from segments.doors.external_audience.options import ExternalOptions
from segments.doors.external_audience.schemas import (
    AudienceChange,
    AudienceDetails,
    AudiencePath,
    ChangedAudience,
    Created,
    OperationPath,
    OperationStatus,
    RunForm,
    RunList,
    RunPath,
    RunsQuery,
    RunStatus,
    SourceParams,
    StartedRun,
)
from segments.doors.external_audience.source_files import list_files, within
from segments.doors.external_audience.spec import (
    by_whom,
    changed_spec,
    check_change,
    check_fields,
    details_of,
    spec_of,
)
from segments.doors.rest.door import Door, Reply, operation
from segments.doors.rest.problem import Problem
from segments.doors.rest.services import Services
from segments.files.base_connection import BaseConnection
from segments.ingest.deletion import delete_files
from segments.ingest.external_audience.deletion import delete_audience
from segments.ledger import audiences
from segments.ledger.database.engine import reading
from segments.ledger.external_audience import audiences as external_audiences
from segments.ledger.external_audience import base_connections
from segments.ledger.external_audience import runs as external_runs
from segments.ledger.external_audience.audiences import ExternalAudience, Status
from segments.ledger.privacy.opt_outs import SAME_FOR_S
from segments.ledger.revision import lock_catalog
from segments.model.refusal import Duplicate, NotFound
from segments.store import keys

_PREFIX = "/core/ais"
_ONE, _MANY = "/external-audience", "/external-audiences"
_AUDIENCE = f"{_PREFIX}{_ONE}/{{audienceId}}"


class ExternalAudienceDoor(Door):
    """Adobe's external audiences: created, ingested from the customer's storage, deleted."""

    tag = "External audiences"
    problem_model = ExternalProblem
    # The document's `curl -d` examples of a PATCH and of a run set no content type.
    json_as = frozenset({"application/x-www-form-urlencoded"})

    def __init__(self, services: Services, options: ExternalOptions) -> None:
        self.schemes = (SandboxCredentials(services),)
        self._services = services
        self._options = options
        self._creations = Creations(services)

    def problem(self, problem: Problem) -> web.Response:
        """Answer a problem, with the vendor's code if there is any."""
        return external_problem(problem)

    def also_at(self, path: str) -> Sequence[str]:
        """Return the alternative spellings of a path."""
        below = path.removeprefix(_PREFIX + _ONE)
        tails = [below, f"{below}/"]
        if below.endswith("/runs"):
            tails += [below.removesuffix("s"), f"{below.removesuffix('s')}/"]
        spelled = [
            f"{data}{_PREFIX}{name}{tail}"
            for data in ("", "/data")
            for name in (_ONE, _MANY)
            for tail in tails
        ]
        return [each for each in spelled if each != path]

    async def close(self) -> None:
        """Wait for creations in progress; a later request resumes slow ones."""
        await self._creations.close()

    @operation(
        "POST", f"{_PREFIX}{_ONE}", answers={202: Created}, problems=(409, 422), is_idempotent=True
    )
    async def create(self, *, caller: SandboxCaller, body: AudienceDetails) -> Created:
        """
        Begin to create an external audience.

        Ask by the `operationId` for the progress, and for the `audienceId`.
        """
        check_fields(body)
        try:
            async with self._services.ledger.begin() as conn:
                connection = await _connection(conn, caller, body.source)
                external = await external_audiences.add(
                    conn,
                    caller.sandbox,
                    connection_id=connection.id,
                    namespace=body.namespace,
                    name=body.name,
                    custom_id=body.customAudienceId,
                    ttl_days=body.ttlInDays,
                    spec=spec_of(body),
                    user_id=caller.user_id,
                    now_s=self._services.now_s(),
                )
        except Duplicate as duplicate:
            raise Problem(409, str(duplicate)) from None
        self._creations.go_on(external)
        return Created(operationId=external.operation_id, operationDetails=details_of(external))

    @operation(
        "GET",
        f"{_PREFIX}{_ONE}/operations/{{operationId}}",
        answers={200: OperationStatus},
        problems=(404,),
    )
    async def operation_status(
        self, *, caller: SandboxCaller, path: OperationPath
    ) -> OperationStatus:
        """Return the progress of an external audience's creation, and its `audienceId`."""
        async with reading(self._services.ledger) as conn:
            found = await external_audiences.of_operation(conn, caller.sandbox, path.operationId)
            if found is None or found.deleted_at_s is not None:
                raise Problem(404, "there is no operation of this id")
            segment_id = await _segment_id(conn, found)
        if found.status is Status.PROCESSING:
            self._creations.go_on(found)
        is_there = found.status is Status.SUCCESS
        return OperationStatus(
            operationId=found.operation_id,
            status=found.status,
            operationDetails=details_of(found),
            audienceName=found.name,
            audienceId=found.public_id if is_there else None,
            segmentId=segment_id,
            error=found.error,
            **by_whom(found),
        )

    @operation("PATCH", _AUDIENCE, answers={200: ChangedAudience}, problems=(404, 422))
    async def change(
        self, *, caller: SandboxCaller, path: AudiencePath, body: AudienceChange
    ) -> ChangedAudience:
        """
        Replace the description, labels or data expiration of an external audience.

        Other members of the answer may be sent back unchanged.
        """
        async with self._services.ledger.begin() as conn:
            await lock_catalog(conn)
            external = await _external(conn, caller, path.audienceId)
            segment_id = await _segment_id(conn, external)
            check_change(_changed(external, segment_id), body)
            is_ttl_said = "ttlInDays" in body.model_fields_set
            changed = await external_audiences.change(
                conn,
                external,
                spec=changed_spec(external, body),
                ttl_days=body.ttlInDays if is_ttl_said else external.ttl_days,
                user_id=caller.user_id,
                now_s=self._services.now_s(),
            )
        return _changed(changed, segment_id)

    @operation("DELETE", _AUDIENCE, answers={204: None}, problems=(404, 503))
    async def delete(self, *, caller: SandboxCaller, path: AudiencePath) -> Reply:
        """
        Delete an external audience: the next bid request does not show it.

        Its name, its description and the results of its ingestions go, too. A 503 says
        that it is deleted, but may still be shown for some time; repeat the request
        within an hour to learn whether that time is over.
        """
        now_s = self._services.now_s()
        blobs: list[str] = []
        async with self._services.ledger.begin() as conn:
            await lock_catalog(conn)
            if not await external_audiences.is_deleted(
                conn, caller.sandbox, path.audienceId, now_s - SAME_FOR_S
            ):
                external = await _external(conn, caller, path.audienceId)
                blobs = await delete_audience(conn, external, user_id=caller.user_id, now_s=now_s)
        await delete_files(self._services.ledger, self._services.blobs, blobs)
        with suppress(RedisError):
            await self._services.redis.delete(keys.SWEPT)  # a loader sweeps within seconds
        await self._services.withdraw_from_bids()
        return Reply(None, 204)

    @operation(
        "POST",
        f"{_AUDIENCE}/runs",
        answers={200: StartedRun},
        problems=(404, 422, 502),
        is_idempotent=True,
    )
    async def start_run(
        self, *, caller: SandboxCaller, path: AudiencePath, body: RunForm
    ) -> StartedRun:
        """
        Begin to ingest the files that changed within a window of time.

        An audience has one ingestion at a time. Each person in its files is a member
        for another `ttlInDays`.
        """
        now_s = self._services.now_s()
        end_s = int(now_s) if body.dataFilterEndTime is None else body.dataFilterEndTime
        if end_s < body.dataFilterStartTime:
            raise Problem(422, "dataFilterEndTime is before dataFilterStartTime")
        async with reading(self._services.ledger) as conn:
            external = await _external(conn, caller, path.audienceId)
            try:
                connection = await base_connections.connection(conn, external.connection_id)
            except NotFound as error:
                raise Problem(422, str(error)) from None
        source = details_of(external).source
        files = within(await list_files(connection, source), body.dataFilterStartTime, end_s)
        async with self._services.ledger.begin() as conn:
            run = await runs.begin(
                conn,
                self._options,
                caller,
                external,
                body,
                files=files,
                filter_end_s=end_s,
                now_s=now_s,
            )
        return runs.started(external, run)

    @operation("GET", f"{_AUDIENCE}/runs/{{runId}}", answers={200: RunStatus}, problems=(404,))
    async def run_status(self, *, caller: SandboxCaller, path: RunPath) -> RunStatus:
        """Return the progress of an ingestion."""
        async with reading(self._services.ledger) as conn:
            external = await _external(conn, caller, path.audienceId)
            run = await external_runs.find(conn, external, path.runId)
            if run is None:
                raise Problem(404, "this audience has no ingestion of this id")
            return await runs.status_of(conn, external, run)

    @operation("GET", f"{_AUDIENCE}/runs", answers={200: RunList}, problems=(404,))
    async def list_runs(
        self, *, caller: SandboxCaller, path: AudiencePath, query: RunsQuery
    ) -> RunList:
        """List the ingestions of an external audience, the latest first."""
        async with reading(self._services.ledger) as conn:
            external = await _external(conn, caller, path.audienceId)
            return await runs.page_of(conn, external, query)


async def _external(
    conn: AsyncConnection, caller: SandboxCaller, audience_id: str
) -> ExternalAudience:
    found = await external_audiences.find(conn, caller.sandbox, audience_id)
    if found is None:
        raise Problem(404, "there is no external audience of this id")
    return found


async def _connection(
    conn: AsyncConnection, caller: SandboxCaller, source: SourceParams
) -> BaseConnection:
    if source.baseConnectionId is not None:
        found = await base_connections.find_connection(
            conn, caller.sandbox, source.baseConnectionId
        )
        if found is None:
            raise Problem(422, "there is no base connection of this baseConnectionId")
        return found
    only = await base_connections.connections(conn, caller.sandbox)
    if len(only) != 1:
        raise Problem(422, f"baseConnectionId is left out, and there are {len(only)}")
    return only[0]


def _changed(external: ExternalAudience, segment_id: str | None) -> ChangedAudience:
    assert segment_id is not None, "it is there"
    return ChangedAudience(
        **details_of(external).model_dump(),
        audienceId=external.public_id,
        audienceName=external.name,
        segmentId=segment_id,
        **by_whom(external),
    )


async def _segment_id(conn: AsyncConnection, external: ExternalAudience) -> str | None:
    if external.audience_id is None:
        return None
    return (await audiences.audience(conn, external.audience_id)).segment_id
