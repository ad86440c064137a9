"""
Ingestions of external audiences: start and progress.

A run is a job of its partner, so a partner's runs and files apply in the order of their requests.
The vendor's guard rails are enforced here: runs per day (UTC), in a sandbox and per audience.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from segments.doors.external_audience.access import SandboxCaller
from segments.doors.external_audience.options import ExternalOptions
from segments.doors.external_audience.run_filter import (
    is_named,
    run_filter,
    states_of,
    times_of,
)
from segments.doors.external_audience.schemas import (
    Page,
    RunForm,
    RunList,
    RunsQuery,
    RunState,
    RunStatus,
    Stage,
    StageDetails,
    StartedRun,
)
from segments.doors.rest.problem import Problem
from segments.files.blobs import delivery_name
from segments.files.customer_storage import SourceFile
from segments.ledger import accounts, audiences, jobs
from segments.ledger.external_audience import runs as external_runs
from segments.ledger.external_audience.audiences import ExternalAudience
from segments.ledger.external_audience.runs import Run
from segments.model import explanation
from segments.model.job import Job, JobState
from segments.model.order import Order, SegmentAction, SegmentOrder

DOOR = "external audiences"

_STATES = {
    JobState.QUEUED: RunState.PROCESSING,
    JobState.RUNNING: RunState.PROCESSING,
    JobState.HELD: RunState.PROCESSING,
    JobState.DONE: RunState.SUCCESS,
    JobState.FAILED: RunState.FAILED,
}


async def begin(
    conn: AsyncConnection,
    options: ExternalOptions,
    caller: SandboxCaller,
    external: ExternalAudience,
    form: RunForm,
    *,
    files: list[SourceFile],
    filter_end_s: int,
    now_s: float,
) -> Run:
    """
    Start an ingestion: submit its job and add the run, in the caller's transaction.

    `files` are the source's that changed within the requested times, which end at `filter_end_s`.

    Raises:
        Problem: 422: not possible, or not in this way. 429: too many today.
    """
    assert external.audience_id is not None, "it is there"
    audience = await audiences.audience(conn, external.audience_id)
    # Of two concurrent requests, the second sees the first run.
    await accounts.lock(conn, audience.partner_id)
    if await external_runs.is_any_unfinished(conn, external):
        raise Problem(422, "an ingestion of this audience is in progress; wait for its end")
    await _check_guard_rails(conn, options, external, now_s)
    if form.differentialIngestion:
        taken = await external_runs.taken_before(conn, external, [file.path for file in files])
        files = [f for f in files if (f.path, f.version, f.modified_at_s) not in taken]
    elif not files:
        raise Problem(422, "no file was changed within these times; there is nothing to ingest")
    size_bytes = sum(file.size_bytes for file in files)
    if size_bytes > options.max_bytes:
        raise Problem(422, f"files of {size_bytes} bytes, {options.max_bytes} at most together")

    run_id = external_runs.new_run_id()
    order = Order(
        (SegmentOrder(audience.segment_id, "", SegmentAction.ADD, audience.id),),
        max_removed_share=None if form.differentialIngestion else options.max_replaced_share,
        run_id=run_id,
        replaces=not form.differentialIngestion,
    )
    job = await jobs.submit(
        conn,
        door=DOOR,
        partner_id=audience.partner_id,
        owner_id=audience.owner_id,
        order=order,
        blob=delivery_name(audience.partner_id),
        sha256="",  # the run's id distinguishes the job
        file_name=f"run {run_id}",
        now_s=now_s,
        size_bytes=size_bytes,
    )
    return await external_runs.add_run(
        conn,
        external,
        job,
        run_id,
        files,
        is_differential=form.differentialIngestion,
        filter_start_s=form.dataFilterStartTime,
        filter_end_s=filter_end_s,
        user_id=caller.user_id,
        now_s=now_s,
    )


async def page_of(conn: AsyncConnection, external: ExternalAudience, query: RunsQuery) -> RunList:
    """Return a page of the ingestions that match a query."""
    filters = [run_filter(each) for each in query.property]
    wanted = states_of(filters) if is_named(external.name, filters) else ()
    found_runs, total = await external_runs.page(
        conn,
        external,
        start=query.start,
        limit=query.limit,
        newest_first=query.sortBy.startswith("-"),
        states={state for state, shown in _STATES.items() if shown.value in wanted},
        began=times_of(filters),
    )
    statuses = [await status_of(conn, external, run) for run in found_runs]
    page = Page(start=query.start, limit=query.limit, count=len(statuses), totalCount=total)
    return RunList(runs=tuple(statuses), page=page)


def started(external: ExternalAudience, run: Run) -> StartedRun:
    """Return a run's members that are fixed when it begins."""
    return StartedRun(**_said(external, run))


async def status_of(conn: AsyncConnection, external: ExternalAudience, run: Run) -> RunStatus:
    """Return a run's progress, and any cause of its delay."""
    job = await jobs.job(conn, run.job_id)
    assert job is not None, "jobs are never deleted"
    message = await _waits(conn, job) or explanation.in_a_line(job)
    return RunStatus(
        **_said(external, run),
        status=_STATES[job.state],
        details=tuple(_details(run, job, message)),
    )


async def _waits(conn: AsyncConnection, job: Job) -> str | None:
    """Return a message if a run waits for the operator; without counts of members."""
    if job.state is JobState.HELD:
        behind = await jobs.count_behind(conn, job)
        waiting = f"; {behind} later files or ingestions wait behind it" if behind else ""
        return (
            "held: more persons would leave the audience than may at once; it waits until the"
            f" operator releases it{waiting}"
        )
    if job.state is JobState.QUEUED:
        for before in await jobs.unfinished_before(conn, job):
            if before.state is JobState.HELD:
                is_own = before.owner_id == job.owner_id and before.order.run_id is not None
                which = f"ingestion {before.order.run_id}" if is_own else "an earlier file"
                return f"waits behind {which}, which is held until the operator releases it"
    return None


def _said(external: ExternalAudience, run: Run) -> dict[str, Any]:
    return {
        "audienceName": external.name,
        "audienceId": external.public_id,
        "runId": run.public_id,
        "differentialIngestion": run.is_differential,
        "dataFilterStartTime": run.filter_start_s,
        "dataFilterEndTime": run.filter_end_s,
        "createdAt": run.created_at_s,
        "createdBy": run.created_by,
    }


def _details(run: Run, job: Job, message: str | None) -> list[StageDetails]:
    state = _STATES[job.state]
    if run.collected is None:
        first = StageDetails(
            stage=Stage.DATASET_INGEST,
            status=state,
            flowRunId=job.transaction_id,
            message=message,
        )
        return [first]
    read = StageDetails(
        stage=Stage.DATASET_INGEST,
        status=RunState.SUCCESS,
        flowRunId=job.transaction_id,
        message=_counted(run.collected),
    )
    written = StageDetails(
        stage=Stage.PROFILE_STORE_INGEST,
        status=state,
        flowRunId=job.transaction_id,
        message=message,
    )
    return [read, written]


def _counted(counts: Mapping[str, Any]) -> str:
    said = [f"{counts['files']} files, {counts['rows']} rows, {counts['bad']} of them unusable"]
    # Runs of older versions have no other counts.
    if counts.get("unusable"):
        said.append(f"{counts['unusable']} values are no id of their namespace")
    for control, count in sorted(counts.get("unclear", {}).items()):
        said.append(f"{count} values of {control} are no plain yes or no: these persons left")
    return "; ".join(said)


async def _check_guard_rails(
    conn: AsyncConnection, options: ExternalOptions, external: ExternalAudience, now_s: float
) -> None:
    now = datetime.fromtimestamp(now_s, UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    in_sandbox, of_audience = await external_runs.count_since(
        conn, external, int(midnight.timestamp())
    )
    wait_s = int((midnight + timedelta(days=1) - now).total_seconds()) + 1
    for count, limit, what in (
        (in_sandbox, options.runs_per_day, "in this sandbox"),
        (of_audience, options.runs_per_audience, "of this audience"),
    ):
        if count >= limit:
            raise Problem(
                429, f"{count} ingestions {what} today", headers={"Retry-After": str(wait_s)}
            )
