"""
The operator's settings of the bid path: environment variables, or lines of a `.env` file.

Read once, when a process starts, and frozen. The legal defaults are the strict ones of
docs/bid-path.md, "Consent". A deployment may decide each otherwise, under its own name.
"""

import json
import re
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AliasChoices, BeforeValidator, Field, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from rtb.consent.decision import Policy
from rtb.consent.tcf import DISCLOSED_ALWAYS_DS, DISCLOSED_IF_PRESENT_DS, PURPOSES, VENDORS, Vendor
from rtb.id_rules import DEFAULT_RULES, ENCRYPTED_SOURCE, IdRule, with_named_kinds
from rtb.identify import Identify
from rtb.lookup.freshness import MIN_MAX_AGE_S
from rtb.lookup.near_cache.lease import CacheLimits
from rtb.openrtb.decode import Decoder
from rtb.openrtb.targeting import EID_PREFIX
from rtb.outcome import OutcomeHeader
from rtb.pipeline import PipelineOptions
from segments.runtime.follow_settings import FollowSettings
from segments.runtime.follow_status import FollowReader
from segments.runtime.operator_settings import texts
from segments.runtime.store_url import check_store_url, store_url
from segments.runtime.tls import TlsFiles, tls_files
from segments.store.cache_lease import MAX_LEASE_MS
from segments.store.catalog_lease import DEFAULT_LEASE_MS
from segments.store.catalog_lease import MAX_LEASE_MS as CATALOG_MAX_LEASE_MS
from segments.store.reader import StoreUnusable
from segments.store.servers.connection import connect, several_of


def _name_or_map(value: Any) -> Any:
    """Parse a JSON object; any other text is a name."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            return json.loads(value)
        except ValueError:
            raise ValueError("a recipient's name, or a JSON object of names") from None
    return value


_PORT: Final = 8080
"""The default port of hosting platforms without a port variable, and of OpenX."""

_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def _day_or_word(value: Any) -> Any:
    """Accept only a full day: pydantic reads other digits as seconds since 1970."""
    if isinstance(value, str) and value not in ("present", "always") and not _DAY.fullmatch(value):
        raise ValueError("a day as YYYY-MM-DD, or one of present, always")
    return value


def _disclosed_from_ds(since: str | date) -> int:
    """Return since which `Created` a TC string must have the segment, in tenths of a second."""
    if isinstance(since, date):
        return int(datetime(since.year, since.month, since.day, tzinfo=UTC).timestamp()) * 10
    return DISCLOSED_ALWAYS_DS if since == "always" else DISCLOSED_IF_PRESENT_DS


class RtbSettings(FollowSettings):
    """Settings of the bid listener; each field is `RTB_<FIELD>` unless it says otherwise."""

    model_config = SettingsConfigDict(env_prefix="RTB_", populate_by_name=True)

    # Ports and TLS.

    host: str = "0.0.0.0"  # noqa: S104 - a container's listener; the operator may narrow it
    """Address of the bid listener."""

    host_port: int | None = Field(
        None, ge=0, le=65535, validation_alias=AliasChoices("PORT", "SERVER_PORT")
    )
    """
    Port of the bid listener as hosting platforms set it. They know no other port, so by default it
    serves health and metrics as well. See [hosts.md](hosts.md).
    """

    bid_port: int | None = Field(None, ge=0, le=65535, validation_alias="RTB_PORT")
    """Port of the bid listener; unset: `PORT`, else `SERVER_PORT`, else 8080."""

    health_on_bid_port: bool | None = None
    """
    Whether the bid port serves health and metrics, in addition to the admin port. Unset: both if
    `PORT` or `SERVER_PORT` gave the port; health alone if a gRPC port is open, because ARTF hosts
    set no port and probe there; else neither.
    """

    grpc_port: int | None = Field(
        None, ge=0, le=65535, validation_alias=AliasChoices("RTB_GRPC_PORT", "GRPC_PORT")
    )
    """
    Additional port of the bid listener, where hosts expect gRPC: `RTB_GRPC_PORT`, else `GRPC_PORT`;
    unset: none. Both ports speak HTTP/1.1 and HTTP/2.
    """

    admin_port: int = Field(8081, ge=0, le=65535)
    """Port of health and metrics."""

    admin_host: str = "127.0.0.1"
    """Address of the admin port. Its metrics reveal how many persons each recipient was shown."""

    tls_cert: Path | None = None
    """Certificate chain of the bid listener, PEM; unset: no TLS."""

    tls_key: Path | None = None
    """Private key for `RTB_TLS_CERT`, PEM, without a passphrase."""

    tls_client_ca: Path | None = None
    """
    CAs of client certificates, PEM, for recipients that `rtb-segments recipient certificate` binds
    to one. A client with a certificate of another CA is disconnected.
    """

    admin_tls_cert: Path | None = None
    """
    Certificate chain of health and metrics, PEM; unset: no TLS. Separate from the bid listener's:
    probes inside the network connect by the machine's address, for which the public name's
    certificate is not valid.
    """

    admin_tls_key: Path | None = None
    """Private key for `RTB_ADMIN_TLS_CERT`, PEM, without a passphrase."""

    explain_secret: str | None = Field(None, min_length=16, repr=False)
    """
    Bearer of `POST /explain` on the admin port, by which the console explains bids; unset: there is
    no such path. `up` draws one for its processes.
    """

    workers: int = Field(1, ge=1, le=256)
    """Processes that share the port; one per core."""

    # Limits, shutdown and caching.

    deadline_cap_ms: float = Field(20, gt=0)
    """Maximum wait of a request for the store, in milliseconds, whatever its `tmax`."""

    tmax_share: float = Field(0.1, gt=0, le=1)
    """Fraction of `tmax` that enrichment may spend; the rest is the auction's."""

    max_in_flight: int = Field(10_000, ge=1)
    """Requests per worker that may wait for the store at once; more are passed through."""

    max_body_bytes: int = Field(262_144, ge=1_024)
    """Maximum size of a body, before and after inflation; a larger body is answered 413."""

    max_unfinished_bytes: int = Field(64 << 20, ge=1 << 20)
    """
    Memory per worker for partly received requests. Beyond it the request that began first is
    answered 503. A single request of the maximum size always has room.
    """

    header_timeout_s: float = Field(5.0, gt=0)
    """Time limit for receiving the headers of a request, in seconds."""

    body_timeout_s: float = Field(5.0, gt=0)
    """Time limit for receiving the body of a request, in seconds."""

    idle_timeout_s: float = Field(75.0, gt=0)
    """
    How long a connection stays open without a request, in seconds; longer than a load balancer's 60
    s.
    """

    h2_max_age_s: float = Field(300.0, ge=0)
    """
    Lifetime of an HTTP/2 connection in seconds, give or take a tenth. Then the client is told to
    open another, which may reach another worker; no call is lost. 0: no limit.
    """

    stop_accepting_after_s: float = Field(5.0, ge=0)
    """
    How many seconds after SIGTERM new connections are still accepted, each for one request, while
    readiness already fails: load balancers notice only at their next check. `up` on a terminal does
    not wait.
    """

    drain_s: float = Field(10.0, ge=0)
    """How many seconds the requests in flight may take to finish after that."""

    cache_bytes: int = Field(0, ge=0)
    """
    Size of each worker's near cache, which saves lookups of recent records; 0: no cache. Refused
    with a Redis Cluster. See `rtb.lookup.near_cache.cache`.
    """

    cache_lease_ms: int = Field(20, ge=2, le=MAX_LEASE_MS)
    """
    The cache lease in milliseconds: how long after a question to the store a worker may answer from
    its near cache. Each answer renews it. Opt-outs wait as long before they are acknowledged. Set
    it to several times the store's response time.
    """

    debug_header: bool = False
    """
    Answer the request header `X-Enrich-Debug: 1` with the reason of the outcome, in
    `X-Enrich-Reason`. The reason reveals why a person was refused.
    """

    data_age_header: bool = False
    """
    Answer every bid with the age of the followed data in seconds, in `X-Enrich-Data-Age`. Only for
    a pod that follows (`RTB_FOLLOW`).
    """

    catalog_lease_ms: int = Field(DEFAULT_LEASE_MS, ge=100, le=CATALOG_MAX_LEASE_MS)
    """
    How long the store's last confirmation of the catalog is valid, in milliseconds. Then nothing is
    enriched (`store_down`, reason `catalog_unconfirmed`). Answers to deletions wait as long, and at
    least the default, until no worker shows the deleted data.
    """

    opt_outs_max_age_s: float = Field(60.0, ge=0)
    """
    How long a loader's confirmation that every opt-out is in the store is valid, in seconds. Then
    nothing is enriched (`store_down`, reason `opt_outs_stale`) until a loader confirms again. At
    least 6; 0: no limit.
    """

    # Lookup and answer.

    id_rules: tuple[IdRule, ...] = DEFAULT_RULES
    """
    Where identifiers are in a bid request, in order of trust: a JSON array of objects with `kind`
    and `path`, `source`, `stype` or `provider` (see `rtb.identify`). Replaces the defaults.
    """

    max_ids: int = Field(10, ge=1, le=1_000)
    """
    Maximum ids of a request. A request with more is not enriched: a lookup of only some could miss
    an id that opted out.
    """

    strip_paths: Annotated[tuple[str, ...], NoDecode, BeforeValidator(texts)] = ("user.ext.hashes",)
    """
    Input-only fields, comma-separated. They are removed from every request, whatever its outcome.
    """

    max_segments: int = Field(64, ge=1)
    """Maximum segments per partner in a request."""

    default_recipient: str | None = None
    """
    Recipient of paths without a name, such as `/openrtb2/enrich`. Unset: they are answered 404,
    unless `RTB_ALLOW_UNNAMED_RECIPIENT` is set. A name that the catalog does not have is answered
    404, too, and logged.
    """

    allow_unnamed_recipient: bool = False
    """
    Serve paths without a recipient's name, unless `RTB_DEFAULT_RECIPIENT` is set, to the trusted
    caller in the platform, **who is shown the segments of all partners**. Every client that reaches
    the port is that caller.
    """

    artf_recipient: Annotated[
        str | dict[str, str] | None, NoDecode, BeforeValidator(_name_or_map)
    ] = None
    """
    Recipient of ARTF calls over gRPC, whose path can't name one: a recipient's name, or a JSON
    object from `originator.id` to name, for a host that serves several. Unset, or for an unlisted
    originator: `RTB_DEFAULT_RECIPIENT`. If both and `RTB_ALLOW_UNNAMED_RECIPIENT` are unset, calls
    are answered `UNIMPLEMENTED`.
    """

    artf_id: Literal["segment", "partner:segment"] | None = None
    """
    How a mutation, which has no field for the partner, names a segment: `segment`: by its id;
    `partner:segment`: with the partner's id before it. Unset: with the partner's id, unless the
    recipient has exactly one partner.
    """

    artf_ids_per_mutation: int = Field(0, ge=0, le=1)
    """Segments per mutation. 0: all of them; 1: one each, as Index Exchange requires."""

    artf_tmax_share: float = Field(0.5, gt=0, le=1)
    """
    Fraction of `RTBRequest.tmax` that enrichment may spend: all of that time is ours, network
    included, none the auction's.
    """

    outcome_header: OutcomeHeader = OutcomeHeader.FULL
    """
    Detail of `X-Enrich-Outcome`. `full`: the outcome. `coarse`: `enriched` or `passed`, which does
    not reveal refusals of consent. A refused request (4xx) is `malformed` with both.
    """

    hold_out: float = Field(0.0, ge=0, le=1)
    """
    Fraction of persons left unenriched for the caller of `RTB_ALLOW_UNNAMED_RECIPIENT`; recipients
    have their own.
    """

    trace_every: int = Field(1000, ge=0)
    """
    Each worker traces one bid in this many, if `SEGMENTS_OTLP_URL` is set: spans `bid`, `decode`,
    `consent`, `lookup` and `inject`, below the sender's `traceparent`. 0: none.
    """

    remember_seen: bool = False
    """
    Remember which ids were looked up, in a seen filter per day in the store (16 MiB each, for 31
    days), so that the CRM door can tell an upload how many of its ids were in bids. Ids of
    opted-out persons are never added. See `segments.store.seen_filter`.
    """

    # Requests other than bids.

    targeting: bool = False
    """
    Answer `GET /v2/targeting`, the query of Prebid Server's module for Optable: see
    docs/prebid-server.md. Requires `RTB_TARGETING_RECIPIENTS` and `RTB_TARGETING_GDPR_WHEN_UNSAID`.
    """

    targeting_recipients: Annotated[tuple[str, ...], NoDecode, BeforeValidator(texts)] = ()
    """
    Recipients that may send targeting queries, comma-separated. List a recipient only if the
    activity controls of its Prebid Server enforce US opt-outs, because its queries do not carry
    them.
    """

    targeting_gdpr_when_unsaid: bool | None = None
    """
    Whether a targeting query without a TC string is under GDPR. Prebid Server sends such queries
    outside the EU, and inside it if the TC string is missing or invalid: `false` shows these
    persons, too.
    """

    targeting_prefixes: dict[str, str] = Field(default_factory=dict)
    """
    Sources of the eids that an account maps to prefixes, as a JSON object: its `ppid-mapping`
    inverted, such as `{"c": "liveintent.com"}`. `id5`, `utiq` and `n` are known.
    """

    curation_gdpr_when_unsaid: bool | None = None
    """
    Whether Google's SegmentRequest without a TC string is under GDPR. Unset: `/curation` is off
    (404).
    """

    # Consent.

    gdpr_when_unsaid: bool = False
    """Whether a request without `regs.gdpr` and without a TC string is under GDPR."""

    tcf_vendor_id: int = Field(148, ge=VENDORS[0], le=VENDORS[-1])
    """Our id on the IAB's Global Vendor List: a TC string must consent to this vendor."""

    tcf_purposes: Annotated[tuple[int, ...], NoDecode, BeforeValidator(texts)] = (1, 3, 4)
    """
    TCF purposes that a TC string must consent to, comma-separated, at least one. 1: store on a
    device; 3: build an advertising profile; 4: show ads by that profile.
    """

    tcf_disclosed_vendors: Annotated[
        Literal["present", "always"] | date, BeforeValidator(_day_or_word)
    ] = date(2026, 3, 1)
    """
    Whether a TC string must have the segment of disclosed vendors of TCF 2.3, which says that we
    were disclosed to the person: `always`; a day (YYYY-MM-DD): if created on that day or later;
    `present`: no, but a segment that is present is obeyed, as it always is.
    """

    gpp_without_sid: Literal["all", "none"] = "all"
    """
    Which sections of a `regs.gpp` without `regs.gpp_sid`, the usual form, apply: `all`, and each
    must permit; or `none`.
    """

    gpp_personal_data_2_permits: bool = False
    """
    Whether `PersonalDataConsents` 2 of the national section permits, as the specification's
    "Consent". `false`: 2 refuses, as 1 does.
    """

    lmt_refuses: bool = True
    """
    Whether `device.lmt = 1`, and `device.ext.atts` of 0 to 2, refuse. `false`: they only exclude
    `device.ifa` from the lookup.
    """

    dnt_refuses: bool = False
    """Whether `device.dnt = 1` refuses. `false`: it is ignored, as Prebid does."""

    us_privacy_malformed_refuses: bool = True
    """Whether a malformed `us_privacy` refuses. `false`: it counts as not said."""

    # The store, by the control plane's own variables.

    data_dir: Path = Field(Path("data"), validation_alias="SEGMENTS_DATA_DIR")
    """Directory of the embedded store's socket; the control plane reads the same variable."""

    redis_url: str | None = Field(None, validation_alias="SEGMENTS_REDIS_URL", repr=False)
    """
    URL of the store, in a form of `segments.store.servers.connection`. Unset: the embedded store.
    """

    bids_redis_url: str | None = Field(None, validation_alias="RTB_REDIS_URL", repr=False)
    """
    URL of the same store for the bid listener alone, with a user of minimal permissions. Unset:
    `SEGMENTS_REDIS_URL`.
    """

    read_replicas: bool = False
    """
    Read from the replicas of a Redis Cluster as well. **An opt-out is then acknowledged once all
    connected replicas have confirmed it**, and is not yet in force while a replica takes over a
    second.
    """

    @property
    def port(self) -> int:
        """The port of the bid listener."""
        given = (self.bid_port, self.host_port, _PORT)
        return next(port for port in given if port is not None)

    @property
    def has_health_on_bid_port(self) -> bool:
        """Whether the bid port serves the health paths."""
        is_grpc_open = self.health_on_bid_port is None and self.grpc_port is not None
        return is_grpc_open or self.has_metrics_on_bid_port

    @property
    def has_metrics_on_bid_port(self) -> bool:
        """
        Whether the bid port serves metrics, which reveal how many persons each recipient was shown.
        """
        if self.health_on_bid_port is not None:
            return self.health_on_bid_port
        return self.host_port is not None and self.host_port == self.port

    @property
    def store_url(self) -> str:
        """The URL of the store in use."""
        return store_url(self.bids_redis_url or self.redis_url, self.data_dir)

    @property
    def room(self) -> CacheLimits | None:
        """The limits of the near cache; `None`: no cache."""
        return CacheLimits(self.cache_bytes, self.cache_lease_ms) if self.cache_bytes else None

    @property
    def tls(self) -> TlsFiles | None:
        """The TLS files of the bid listener; `None`: no TLS."""
        return tls_files("RTB", self.tls_cert, self.tls_key, self.tls_client_ca)

    @property
    def admin_tls(self) -> TlsFiles | None:
        """The TLS files of health and metrics; `None`: no TLS."""
        return tls_files("RTB_ADMIN", self.admin_tls_cert, self.admin_tls_key)

    @property
    def pipeline_options(self) -> PipelineOptions:
        """The options of the pipeline."""
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
                gpp_every_section=False,
                gpp_personal_data_2_permits=self.gpp_personal_data_2_permits,
            ),
        )

    @property
    def following(self) -> FollowReader | None:
        """The progress of the follower beside the listener; `None`: it follows nothing."""
        return None if self.follow is None else FollowReader(self.data_dir)

    @property
    def curation_options(self) -> PipelineOptions | None:
        """The options for Google's SegmentRequests; `None`: they are off."""
        when_unsaid = self.curation_gdpr_when_unsaid
        if when_unsaid is None:
            return None
        options = self.pipeline_options
        # The request is not passed on, so nothing has to be stripped.
        return replace(
            options, strip_paths=(), consent=replace(options.consent, gdpr_when_unsaid=when_unsaid)
        )

    @property
    def targeting_options(self) -> PipelineOptions | None:
        """The options for targeting queries of Prebid Server's module; `None`: they are off."""
        when_unsaid = self.targeting_gdpr_when_unsaid
        if not self.targeting or when_unsaid is None:
            return None
        options = self.pipeline_options
        return replace(
            options,
            id_rules=with_named_kinds(options.id_rules),
            strip_paths=(),
            consent=replace(
                options.consent,
                gdpr_when_unsaid=when_unsaid,
                gpp_without_sid_refuses=True,
                gpp_every_section=True,
            ),
        )

    @model_validator(mode="after")
    def _check_targeting(self) -> "RtbSettings":
        """
        Refuse targeting without its decision on GDPR, without recipients, or with unknown sources.
        """
        if not self.targeting:
            return self
        if self.targeting_gdpr_when_unsaid is None:
            raise ValueError(
                "RTB_TARGETING needs RTB_TARGETING_GDPR_WHEN_UNSAID: true, or false if its queries"
                " without a TC string are never for persons in the EU"
            )
        if not self.targeting_recipients:
            raise ValueError("RTB_TARGETING needs RTB_TARGETING_RECIPIENTS: those that may ask")
        sources = {(rule.source or "").strip().lower() for rule in self.id_rules if not rule.path}
        for prefix, source in self.targeting_prefixes.items():
            if source.strip().lower() not in sources:
                raise ValueError(
                    f"RTB_TARGETING_PREFIXES: {prefix} is {source}, which no rule of RTB_ID_RULES"
                    " looks up"
                )
        return self

    @field_validator("targeting_prefixes")
    @classmethod
    def _check_prefixes(cls, prefixes: dict[str, str]) -> dict[str, str]:
        for prefix, source in prefixes.items():
            if not EID_PREFIX.fullmatch(prefix):
                raise ValueError(
                    f"{prefix} is no prefix of eids: they are c, c1 to c19, id5, utiq, n"
                )
            if source.strip().lower() == ENCRYPTED_SOURCE:
                raise ValueError(f"{ENCRYPTED_SOURCE} ids are encrypted tokens, never a lookup key")
        return prefixes

    @model_validator(mode="after")
    def _check_tls(self) -> "RtbSettings":
        """Refuse a certificate without its key, or a key without its certificate."""
        _ = self.tls, self.admin_tls
        return self

    @model_validator(mode="after")
    def _check_store(self) -> "RtbSettings":
        """
        Refuse a URL that no client takes, and a near cache of a Cluster.

        While a Cluster's slots move, a node does not report changes made by another node.
        """
        try:
            connect(self.store_url)  # which opens no connection
            several = several_of(self.store_url)
        except StoreUnusable as unusable:
            raise ValueError(str(unusable)) from None
        if self.cache_bytes and several is not None and several.is_cluster:
            raise ValueError("RTB_CACHE_BYTES: nothing is cached of a Redis Cluster; leave it 0")
        return self

    @field_validator("redis_url", "bids_redis_url")
    @classmethod
    def _check_redis_url(cls, url: str | None) -> str | None:
        if url is not None:
            check_store_url(url)
        return url

    @model_validator(mode="after")
    def _check_follow(self) -> "RtbSettings":
        """Refuse a second store."""
        if self.follow is not None and (self.redis_url or self.bids_redis_url):
            raise ValueError(
                "RTB_FOLLOW: a pod that follows has a store of its own; leave SEGMENTS_REDIS_URL"
                " and RTB_REDIS_URL unset"
            )
        if self.data_age_header and self.follow is None:
            raise ValueError(
                "RTB_DATA_AGE_HEADER: only data that follows a publication has an age; set"
                " RTB_FOLLOW, or leave this unset"
            )
        return self

    @field_validator("opt_outs_max_age_s")
    @classmethod
    def _check_opt_outs_max_age(cls, max_age_s: float) -> float:
        if 0 < max_age_s < MIN_MAX_AGE_S:
            raise ValueError(f"{MIN_MAX_AGE_S:g} s at least, or 0: a loader confirms once a second")
        return max_age_s

    @field_validator("id_rules")
    @classmethod
    def _check_rules(cls, rules: tuple[IdRule, ...]) -> tuple[IdRule, ...]:
        """
        Refuse rules that the pipeline would refuse, while the operator can still read the error.
        """
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
