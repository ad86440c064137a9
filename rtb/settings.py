"""
What an operator sets of the bid path: environment variables, or lines of a `.env` file.

Read once, when a process starts, and frozen. The legal defaults are the strict
ones of docs/bid-path.md, "Consent"; each is a decision that a deployment may
take otherwise, under its own name.
"""

import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AliasChoices, BeforeValidator, Field, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from rtb.consent.decision import Policy
from rtb.consent.tcf import DISCLOSED_ALWAYS_DS, DISCLOSED_IF_PRESENT_DS, PURPOSES, VENDORS, Vendor
from rtb.id_rules import DEFAULT_RULES, IdRule
from rtb.identify import Identify
from rtb.lookup.freshness import MIN_MAX_AGE_S
from rtb.lookup.near_cache.lease import CacheLimits
from rtb.openrtb.decode import Decoder
from rtb.outcome import OutcomeHeader
from rtb.pipeline import PipelineOptions
from segments.runtime.operator_settings import OperatorSettings
from segments.runtime.store_url import check_store_url, store_url
from segments.runtime.tls import TlsFiles, tls_files
from segments.store.cache_lease import MAX_LEASE_MS
from segments.store.catalog_lease import DEFAULT_LEASE_MS
from segments.store.catalog_lease import MAX_LEASE_MS as CATALOG_MAX_LEASE_MS
from segments.store.reader import StoreUnusable
from segments.store.servers.connection import connect, several_of


def _names(value: Any) -> Any:
    """Take `a, b` as well as a sequence: a list of paths is typed by hand."""
    if isinstance(value, str):
        return tuple(name for part in value.split(",") if (name := part.strip()))
    return value


_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def _day_or_word(value: Any) -> Any:
    """Take a day in full alone: of other digits, pydantic makes a day of seconds since 1970."""
    if isinstance(value, str) and value not in ("present", "always") and not _DAY.fullmatch(value):
        raise ValueError("a day as YYYY-MM-DD, or one of present, always")
    return value


def _disclosed_from_ds(since: str | date) -> int:
    """Return from when on a TC string must have the segment, as its `Created` counts."""
    if isinstance(since, date):
        return int(datetime(since.year, since.month, since.day, tzinfo=UTC).timestamp()) * 10
    return DISCLOSED_ALWAYS_DS if since == "always" else DISCLOSED_IF_PRESENT_DS


class RtbSettings(OperatorSettings):
    """What the bid listener reads; each field is `RTB_<FIELD>` unless it says otherwise."""

    model_config = SettingsConfigDict(env_prefix="RTB_", populate_by_name=True)

    # Where it listens.

    host: str = "0.0.0.0"  # noqa: S104 - a container's listener; the operator may narrow it
    """Address of the bid listener."""

    port: int = Field(
        8080, ge=0, le=65535, validation_alias=AliasChoices("RTB_PORT", "PORT", "SERVER_PORT")
    )
    """Port of the bid listener: `RTB_PORT`, else `PORT` or `SERVER_PORT`, as hosts set them."""

    admin_port: int = Field(8081, ge=0, le=65535)
    """Port of health and metrics."""

    admin_host: str = "127.0.0.1"
    """Address of that port. Its metrics tell how many persons each recipient was shown."""

    tls_cert: Path | None = None
    """Certificate chain of the bid listener, PEM; unset: no TLS."""

    tls_key: Path | None = None
    """Its key, PEM, without a passphrase."""

    admin_tls_cert: Path | None = None
    """
    Certificate chain of health and metrics, PEM; unset: no TLS. Of its own, for
    who asks there is another: a probe by the machine's address, inside of the
    network, to whom the public name's certificate says nothing.
    """

    admin_tls_key: Path | None = None
    """Its key, PEM, without a passphrase."""

    workers: int = Field(1, ge=1, le=256)
    """Processes that share the port; one per core."""

    # How long it takes, and how much.

    deadline_cap_ms: float = Field(20, gt=0)
    """The most that a request may wait for the store, whatever its `tmax`."""

    tmax_share: float = Field(0.1, gt=0, le=1)
    """Fraction of `tmax` that enrichment may spend; the rest is the auction's."""

    max_in_flight: int = Field(10_000, ge=1)
    """Requests of one worker that wait for the store at once; more are passed through."""

    max_body_bytes: int = Field(262_144, ge=1_024)
    """Largest body, before and after inflation; more is answered 413."""

    header_timeout_s: float = Field(5.0, gt=0)
    """How long a client may take over the headers of a request."""

    body_timeout_s: float = Field(5.0, gt=0)
    """How long a client may take over the body of a request."""

    idle_timeout_s: float = Field(75.0, gt=0)
    """How long a connection is kept without a request; longer than a load balancer's 60 s."""

    stop_accepting_after_s: float = Field(5.0, ge=0)
    """
    How long after SIGTERM new connections are accepted, each for one request, while it is not
    ready any more: load balancers notice at their next look. `up` on a terminal does not wait.
    """

    drain_s: float = Field(10.0, ge=0)
    """How long the requests in flight may take to finish after that."""

    cache_bytes: int = Field(0, ge=0)
    """
    Memory of each worker for records that it need not ask for again; 0: no cache.
    Refused with a Redis Cluster. See `rtb.lookup.near_cache.cache`.
    """

    cache_lease_ms: int = Field(20, ge=2, le=MAX_LEASE_MS)
    """
    How long the store's last answer stands for its present state: renewed by each
    answer, and what an opt-out waits before it is acknowledged. Several times what
    the store takes to answer.
    """

    debug_header: bool = False
    """
    Tell the reason of an ending, in `X-Enrich-Reason`, to whoever asks by
    `X-Enrich-Debug: 1`. It says of a person why they were refused.
    """

    catalog_lease_ms: int = Field(DEFAULT_LEASE_MS, ge=100, le=CATALOG_MAX_LEASE_MS)
    """
    How long ago the store may have confirmed the catalog; then nothing is enriched
    (`store_down`, reason `catalog_unconfirmed`). Also what the answer to a deletion
    waits, and no less than the default: until no worker shows what was deleted.
    """

    opt_outs_max_age_s: float = Field(60.0, ge=0)
    """
    How long ago a loader may have said that every opt-out is in the store; then
    nothing is enriched (`store_down`, reason `opt_outs_stale`) until one says so again.
    At least 6; 0 switches this off.
    """

    # Whom it looks up, and what it shows.

    id_rules: tuple[IdRule, ...] = DEFAULT_RULES
    """
    Where identifiers stand, in the order of trust: a JSON array of objects with
    `kind` and `path`, `source`, `stype` or `provider` (see `rtb.identify`).
    Replaces the defaults.
    """

    max_ids: int = Field(10, ge=1, le=1_000)
    """
    A request with more ids than these is not enriched: looking up only some
    could miss the one that opted out.
    """

    strip_paths: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)] = (
        "user.ext.hashes",
    )
    """Input-only fields, with commas between them, that leave no request, whatever its outcome."""

    max_segments: int = Field(64, ge=1)
    """Segments of one partner in one request."""

    allow_unnamed_recipient: bool = True
    """
    Serve `/openrtb2/enrich` without a recipient's name: the trusted caller in
    the platform, who sees all partners' segments.
    """

    outcome_header: OutcomeHeader = OutcomeHeader.FULL
    """
    How much `X-Enrich-Outcome` tells. `coarse`: `enriched` or `passed`, so that nobody who can ask
    reads from it that a person said no. A request that is refused (4xx) is `malformed` with both.
    """

    hold_out: float = Field(0.0, ge=0, le=1)
    """Fraction of persons left unenriched for the unnamed recipient; others have their own."""

    remember_seen: bool = False
    """
    Remember which ids were looked up, as bits of a filter a day in the store (16 MiB
    each, for 31 days), so that an upload of the CRM door is told how many of its ids
    were in bids. Never of who opted out. See `segments.store.seen_filter`.
    """

    # What it takes for a no.

    gdpr_when_unsaid: bool = False
    """Treat a request without `regs.gdpr` and without a TC string as under GDPR."""

    tcf_vendor_id: int = Field(148, ge=VENDORS[0], le=VENDORS[-1])
    """Who we are on the IAB's Global Vendor List: a TC string must name this vendor."""

    tcf_purposes: Annotated[tuple[int, ...], NoDecode, BeforeValidator(_names)] = (1, 3, 4)
    """
    Purposes that a TC string must consent to, with commas between them: 1 to
    store on a device, 3 to build a profile, 4 to show ads by it. At least one.
    """

    tcf_disclosed_vendors: Annotated[
        Literal["present", "always"] | date, BeforeValidator(_day_or_word)
    ] = date(2026, 3, 1)
    """
    Whether a TC string must say that we were disclosed to the person, in the segment of
    disclosed vendors of TCF 2.3: `always`; from a day on (YYYY-MM-DD), if it was created then or
    later; or `present`: where it has such a segment, which is always obeyed.
    """

    gpp_without_sid: Literal["all", "none"] = "all"
    """
    What applies of a `regs.gpp` without `regs.gpp_sid`, as most senders write it: `all` of its
    sections, and each must permit; or `none`.
    """

    gpp_personal_data_2_permits: bool = False
    """
    `PersonalDataConsents` 2 of the national section permits, as the specification's "Consent";
    otherwise 2 refuses as 1 does.
    """

    lmt_refuses: bool = True
    """
    `device.lmt = 1`, and `device.ext.atts` of 0 to 2, refuse; otherwise they only keep us from
    reading `device.ifa`.
    """

    dnt_refuses: bool = False
    """`device.dnt = 1` refuses; otherwise it is ignored, as Prebid does."""

    us_privacy_malformed_refuses: bool = True
    """A `us_privacy` that is none refuses; otherwise it counts as not said."""

    # Which store it asks: the control plane's own variables.

    data_dir: Path = Field(Path("data"), validation_alias="SEGMENTS_DATA_DIR")
    """Where the embedded store keeps its socket, as the control plane says."""

    redis_url: str | None = Field(None, validation_alias="SEGMENTS_REDIS_URL", repr=False)
    """
    The membership store, as `segments.store.servers.connection` has it. Unset: the embedded one.
    """

    read_replicas: bool = False
    """
    Read from the replicas of a Redis Cluster as well. **An opt-out is then acknowledged once all
    connected replicas have confirmed it**, and is not in force yet where one takes over a second.
    """

    @property
    def store_url(self) -> str:
        """The URL of the store in use."""
        return store_url(self.redis_url, self.data_dir)

    @property
    def room(self) -> CacheLimits | None:
        """What the near cache may keep, if there is one."""
        return CacheLimits(self.cache_bytes, self.cache_lease_ms) if self.cache_bytes else None

    @property
    def tls(self) -> TlsFiles | None:
        """What the bid listener serves with, if with TLS."""
        return tls_files("RTB", self.tls_cert, self.tls_key)

    @property
    def admin_tls(self) -> TlsFiles | None:
        """What health and metrics are served with, if with TLS."""
        return tls_files("RTB_ADMIN", self.admin_tls_cert, self.admin_tls_key)

    @property
    def pipeline_options(self) -> PipelineOptions:
        """The settings that the pipeline is made from."""
        return PipelineOptions(
            id_rules=self.id_rules,
            strip_paths=self.strip_paths,
            max_ids=self.max_ids,
            max_segments=self.max_segments,
            consent=Policy(
                lmt_refuses=self.lmt_refuses,
                dnt_refuses=self.dnt_refuses,
                us_privacy_malformed_refuses=self.us_privacy_malformed_refuses,
                gdpr_when_unsaid=self.gdpr_when_unsaid,
                vendor=Vendor.of(
                    self.tcf_vendor_id,
                    self.tcf_purposes,
                    _disclosed_from_ds(self.tcf_disclosed_vendors),
                ),
                gpp_without_sid_refuses=self.gpp_without_sid == "all",
                gpp_personal_data_2_permits=self.gpp_personal_data_2_permits,
            ),
        )

    @model_validator(mode="after")
    def _check_tls(self) -> "RtbSettings":
        """Refuse half of a pair."""
        _ = self.tls, self.admin_tls
        return self

    @model_validator(mode="after")
    def _check_store(self) -> "RtbSettings":
        """
        Refuse a URL that no client takes, and to keep what a Cluster says.

        Where the slots of a Cluster move, a node tells of no change that another made.
        """
        try:
            connect(self.store_url)  # which opens no connection
            several = several_of(self.store_url)
        except StoreUnusable as unusable:
            raise ValueError(str(unusable)) from None
        if self.cache_bytes and several is not None and several.is_cluster:
            raise ValueError("RTB_CACHE_BYTES: nothing is cached of a Redis Cluster; leave it 0")
        return self

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, url: str | None) -> str | None:
        if url is not None:
            check_store_url(url)
        return url

    @field_validator("opt_outs_max_age_s")
    @classmethod
    def _check_opt_outs_max_age(cls, max_age_s: float) -> float:
        if 0 < max_age_s < MIN_MAX_AGE_S:
            raise ValueError(f"{MIN_MAX_AGE_S:g} s at least, or 0: a loader speaks once a second")
        return max_age_s

    @field_validator("id_rules")
    @classmethod
    def _check_rules(cls, rules: tuple[IdRule, ...]) -> tuple[IdRule, ...]:
        """Refuse rules that the pipeline would refuse, while there is someone to tell."""
        Identify(rules, Decoder(rule.path for rule in rules if rule.path is not None))
        return rules

    @field_validator("tcf_purposes")
    @classmethod
    def _check_purposes(cls, purposes: tuple[int, ...]) -> tuple[int, ...]:
        if not purposes or not set(purposes) <= set(PURPOSES):
            raise ValueError("purposes are numbers from 1 to 24, at least one")
        return purposes

    @field_validator("strip_paths")
    @classmethod
    def _check_paths(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        if not all(name for path in paths for name in path.split(".")):
            raise ValueError("a path is names with dots between them")
        return paths
