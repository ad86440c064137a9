from segments.settings import Settings
from segments.upkeep.doctor.findings import Deployment


def deployment_of(settings: Settings) -> Deployment:
    """Return the deployment that `rtb-segments doctor` and the console examine."""
    return Deployment(
        ledger_url=settings.ledger_dsn,
        store_url=settings.store_url,
        bids_store_url=settings.bids_store_url,
        embedded_store=settings.embedded_store,
        expected_ids=settings.expected_ids,
        blobs_at=settings.blobs_at,
        data_dir=settings.data_dir,
        reserve_bytes=settings.reserve_bytes,
    )
