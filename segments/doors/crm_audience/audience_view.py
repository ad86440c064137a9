"""
An audience as digitalAudience's `loadAudienceById` shows it.

An upload appears once its counts are stored; insights are pending until its job ends. Failed
uploads are listed apart with their reason.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from segments.doors.crm_audience.schemas import (
    ACTIVATION_STATUS_IDS,
    AUDIENCE_STATE_IDS,
    INSIGHTS_STATE_IDS,
    ONBOARDING,
    ONBOARDING_ID,
    ActivationStatus,
    AudienceState,
    AudienceView,
    CrmData,
    DataSetCounts,
    FailedUpload,
    InsightsState,
    UploadHistory,
    UploadSnapshot,
)
from segments.ledger import activations, jobs
from segments.ledger.activations import Activation
from segments.ledger.crm_audience import uploads as crm_uploads
from segments.ledger.crm_audience.audiences import CrmAudience
from segments.ledger.crm_audience.uploads import MODE_OF, CrmUpload, Mode
from segments.model import explanation
from segments.model.audience import Audience
from segments.model.job import Job, JobState

_MAX_FAILED = 10


async def view(conn: AsyncConnection, crm: CrmAudience, now_s: float) -> AudienceView:
    """Return an audience with all its details."""
    audience = crm.audience
    activated = await activations.activations_of(conn, [audience.id])
    uploads = [
        upload
        for upload in await crm_uploads.of_audience(conn, audience.id)
        if upload.job_state != JobState.FAILED
    ]
    failed = await crm_uploads.failed(conn, audience, at_most=_MAX_FAILED)
    unfinished = await jobs.unfinished_of(conn, audience.owner_id)
    is_processing = any(crm_uploads.actions_of(job, audience) for job in unfinished)
    status = _activation_status(activated, now_s)
    state = _audience_state(uploads, is_processing=is_processing)
    finished = [u.finished_at_s for u in uploads if u.finished_at_s is not None]
    return AudienceView(
        userId=crm.user_id,
        description=crm.description,
        campaignId=crm.campaign.id,
        campaignName=crm.campaign.name,
        dataUpdated=_moment(max(finished)) if finished else None,
        startDate=_moment(min(a.live_from_s for a in activated)) if activated else None,
        endDate=_moment(max(a.live_until_s for a in activated)) if activated else None,
        activationStatus=status,
        activationStatusId=ACTIVATION_STATUS_IDS[status],
        lifetimeStatus=None,
        lifetimeStatusId=None,
        tagCollection=None,
        crmData=_crm_data(audience, uploads, failed, is_processing=is_processing),
        audienceState=state,
        audienceStateId=AUDIENCE_STATE_IDS[state],
        type=ONBOARDING,
        typeId=ONBOARDING_ID,
        sourceAudienceId=None,
        sourceAudienceTypeId=None,
        canCreateLookalike=False,
        hasSegments=bool(activated),
        id=int(audience.segment_id),
        name=audience.name,
        created=_moment(crm.created_at_s),
        updated=_moment(crm.updated_at_s),
    )


def _audience_state(uploads: Sequence[CrmUpload], *, is_processing: bool) -> AudienceState:
    if is_processing:
        return AudienceState.PROCESSING
    return AudienceState.READY if uploads else AudienceState.NODATA


def _activation_status(activated: Sequence[Activation], now_s: float) -> ActivationStatus:
    if any(a.live_from_s <= now_s < a.live_until_s for a in activated):
        return ActivationStatus.ACTIVE
    if any(now_s < a.live_from_s for a in activated) or not activated:
        return ActivationStatus.NEW
    return ActivationStatus.ENDED


def _crm_data(
    audience: Audience, uploads: Sequence[CrmUpload], failed: Sequence[Job], *, is_processing: bool
) -> CrmData | None:
    if not (uploads or failed or is_processing):
        return None
    state = InsightsState.PENDING if is_processing else InsightsState.READY
    history: dict[str, UploadSnapshot] = {}
    for upload in uploads:
        created = _moment(upload.created_at_s)
        # Keys must differ: move the later of two simultaneous uploads by a microsecond.
        while (at := created.isoformat(timespec="microseconds").replace("+00:00", "Z")) in history:
            created += timedelta(microseconds=1)
        history[at] = _snapshot(audience, upload, created)
    return CrmData(
        insightsState=state,
        insightsStateId=INSIGHTS_STATE_IDS[state],
        size=sum(upload.total_rows for upload in uploads if upload.mode is Mode.OPT_IN),
        history=UploadHistory(totalEvents=len(uploads), history=history),
        failedUploads=[_failed(audience, job) for job in failed],
    )


def _failed(audience: Audience, job: Job) -> FailedUpload:
    action, *_ = crm_uploads.actions_of(job, audience)
    return FailedUpload(
        fileName=job.file_name,
        mode=MODE_OF[action].value,
        created=_moment(job.created_at_s),
        details=explanation.of_job(job),
    )


def _snapshot(audience: Audience, upload: CrmUpload, created: datetime) -> UploadSnapshot:
    data_set = {kind: DataSetCounts(**counts) for kind, counts in upload.data_set.items()}
    return UploadSnapshot(
        audienceId=int(audience.segment_id),
        mode=upload.mode.value,
        totalRows=upload.total_rows,
        created=created,
        dataSet=data_set,
        matchRates={
            kind: round(counts.MATCH / counts.UNIQUE, 4) if counts.UNIQUE else 0.0
            for kind, counts in data_set.items()
        },
    )


def _moment(at_s: float) -> datetime:
    return datetime.fromtimestamp(at_s, UTC)
