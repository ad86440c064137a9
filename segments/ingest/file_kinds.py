"""
The table of the kinds of files.

    kind        for                                                      chosen by
    RunSteps    external audiences: marked ids of a customer's files     the order's run
    CrmSteps    CRM audiences: hashes, or typed columns                  the changed audiences
    HashSteps   all other audiences: e-mail hashes                       none of the above

A new kind is a class and an entry in `KINDS`.
"""

from sqlalchemy.ext.asyncio import AsyncConnection

from segments.ingest import deletion
from segments.ingest.crm_audience.extra_steps import CrmSteps
from segments.ingest.external_audience.delta import DeltaParser
from segments.ingest.external_audience.run_steps import RunSteps
from segments.ingest.file_steps import FileSteps
from segments.ingest.hash_steps import HashSteps
from segments.ingest.parse import FileParser, Parser
from segments.ingest.tools import Tools
from segments.ingest.validate import order_as_kept
from segments.model.job import Job
from segments.model.order import Order

KINDS: tuple[type[HashSteps], ...] = (RunSteps, CrmSteps, HashSteps)
"""The first that accepts a file has it; the last accepts any."""


async def steps_of(job: Job, tools: Tools) -> FileSteps:
    """Return the steps of a job's file."""
    order = order_as_kept(job)
    for kind in KINDS:
        steps = await kind.of(job, order, tools)
        if steps is not None:
            return steps
    raise AssertionError("the last kind has any file")


def parser_of_kept(order: Order) -> FileParser:
    """Return a parser for a kept file, except typed columns, which are kept as ids."""
    return DeltaParser(bad=0) if order.is_of_marked_ids else Parser(order.hash_type)


async def tidy(
    conn: AsyncConnection, job: Job, *, now_s: float, refused_file_s: float
) -> list[str]:
    """Remove all that a finished job need not keep: see `deletion.tidy`."""
    states = {
        audience_id: state
        for kind in KINDS
        for audience_id, state in (await kind.audience_states(conn, job)).items()
    }
    return await deletion.tidy(conn, job, states, now_s=now_s, refused_file_s=refused_file_s)
