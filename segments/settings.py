"""
The operator's settings of the control plane: environment variables, or lines of a `.env` file.

Read once, when a process starts, and frozen. A wrong setting stops the process before it has done
anything, with one line per setting that names the variable as the operator typed it. URLs contain
passwords, so no URL is ever quoted, neither in these lines nor in the `repr` of the settings.

Composition roots read the settings. Other modules get their own share: a few values, or one of the
frozen options made here.
"""

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, IPvAnyNetwork, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from segments.console.options import ConsoleOptions
from segments.doors.audience_api.options import AudienceOptions
from segments.doors.external_audience.options import ExternalOptions
from segments.doors.live_audience.options import DropOptions
from segments.doors.privacy.options import PrivacyOptions
from segments.doors.rest.options import RestOptions
from segments.doors.sftp.options import SftpOptions
from segments.loader.options import LoaderOptions
from segments.model.day import S_PER_DAY
from segments.publish.options import PublishOptions
from segments.runtime.addresses import Network, Proxies
from segments.runtime.http_limits import Limits
from segments.runtime.ledger_url import check_ledger_url, embedded_ledger_url, url_for_engine
from segments.runtime.operator_settings import OperatorSettings, texts
from segments.runtime.store_url import check_store_url, scheme_of, store_url
from segments.runtime.tls import TlsFiles, tls_files
from segments.upkeep.listeners import Listeners
from segments.upkeep.opt_out_flood import FloodLimits

CONSOLE_PORT = 8083


class Settings(OperatorSettings):
    """Settings of every control plane process; each field is `SEGMENTS_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="SEGMENTS_")

    data_dir: Path = Path("data")
    """Directory of the embedded store, the SQLite ledger and the local blobs."""

    redis_url: str | None = Field(None, repr=False)
    """
    URL of the store: `redis://`, `rediss://` or `unix://`, or `redis+cluster://` or
    `redis+sentinel://` in the form of `segments.store.servers.connection`. Unset: the embedded
    store, on a socket in `data_dir`.
    """

    bids_redis_url: str | None = Field(None, validation_alias="RTB_REDIS_URL", repr=False)
    """
    URL of the same store for the bid listener, if it has a user of its own; `doctor` checks it.
    """

    explain_secret: str | None = Field(
        None, min_length=16, validation_alias="RTB_EXPLAIN_SECRET", repr=False
    )
    """The bid listeners' secret, by which the console and `rtb-segments explain` ask them."""

    bids_admin_port: int = Field(8081, ge=0, le=65535, validation_alias="RTB_ADMIN_PORT")
    """The admin port of the bid listener on this host."""

    rebuild_when_empty: bool = False
    """
    Rebuild a store that came back empty, as `rebuild` does, without an operator. One loader does
    it, and no bid is enriched meanwhile. Unreadable files are skipped and named.
    """

    ledger_url: str | None = Field(None, repr=False)
    """
    URL of the ledger: `sqlite+aiosqlite:///FILE`, or a PostgreSQL database of its own,
    `postgresql://USER:PASSWORD@HOST/DATABASE`, also with parameters as in libpq's URLs. Unset:
    `ledger.db` in `data_dir`.
    """

    blob_url: str | None = Field(None, repr=False)
    """Where delivered files are kept. Unset: `blobs` in `data_dir`."""

    reserve_bytes: int | None = Field(None, ge=0)
    """
    Bytes of each disk that are reserved for ledger and store. A file that would use them is
    refused, and accepted again once there is room. 0: no reserve. Unset: 1 GiB or 5 % of the disk,
    whichever is smaller.
    """

    expected_ids: int = Field(1_000_000, ge=1, le=10**12)
    """
    Expected number of persons, within a factor of about three; it sets the layout of a new store.
    An existing store keeps its layout.
    """

    remove_brake_share: float = Field(1.0, gt=0, le=1)
    """
    A file that removes more than this fraction of an audience's members is held until `rtb-segments
    release`. 1: no file is held.
    """

    replace_brake_share: float = Field(0.5, gt=0, le=1)
    """The same for a file that replaces an audience, and so removes everyone it does not name."""

    refused_file_h: float = Field(24.0, ge=0, le=168)
    """
    How many hours a delivered file is kept after a refusal for its metadata (errors 1 to 7), so
    that corrected metadata find it. 0: it is not kept. A file refused for its content (error 8) is
    deleted with the answer.
    """

    scrub_within_h: float = Field(24.0, gt=0, le=8760)
    """
    Within how many hours after an ERASURE its ids are scrubbed from every delivered file that is
    kept. They are out of every bid at once.
    """

    loader_jobs: int = Field(4, ge=2, le=32)
    """
    Places of a loader: the files it carries at once, each of another partner. One place takes only
    files of at most 256 KiB. Each file takes up to 60 MB of memory, in Parquet up to 200 MB.
    """

    loader_port: int | None = Field(None, ge=0, le=65535)
    """Port of the loader's health and Prometheus metrics; unset: none."""

    loader_host: str = "127.0.0.1"
    """Address of the loader's port."""

    sftp_admin_port: int | None = Field(None, ge=0, le=65535)
    """Port of the SFTP server's health and metrics; unset: none."""

    api_admin_port: int | None = Field(None, ge=0, le=65535)
    """
    Port of the REST doors' metrics; unset: none. Never the partners' port: the metrics are not for
    partners.
    """

    admin_host: str = "127.0.0.1"
    """Address of these two ports; in a container that Prometheus scrapes, `0.0.0.0`."""

    admin_tls_cert: Path | None = None
    """Certificate chain of the three ports of health and metrics, PEM; unset: no TLS."""

    admin_tls_key: Path | None = None
    """Private key for `SEGMENTS_ADMIN_TLS_CERT`, PEM, without a passphrase."""

    abandoned_upload_days: int = Field(7, ge=2, le=3650)
    """
    An unfinished file is deleted after this many days without another byte. So are a file in the
    bucket that no upload URL was issued for, and a data file in a drop folder that no metadata file
    has asked for.
    """

    drop_dir: Path | None = None
    """
    Directory of the drop folders, one per `partner_id`: the SFTP server serves it, or your own
    server writes to it. Unset: `drop` in `data_dir`.
    """

    drop_wait_s: float = Field(3600.0, gt=0)
    """
    How many seconds a metadata file waits for its data file before the answer "File not found".
    """

    drop_quiet_s: float = Field(10.0, ge=0)
    """
    A file that did not come by our SFTP server counts as complete after this many seconds without a
    write.
    """

    status_days: int = Field(30, ge=1, le=3650)
    """How many days a `.status` file stays in its partner's folder."""

    sftp_host: str = "0.0.0.0"  # noqa: S104 - partners come from outside
    """Address of the SFTP server."""

    sftp_port: int = Field(2222, ge=0, le=65535)
    """Port of the SFTP server."""

    sftp_max_file_bytes: int = Field(5 << 30, ge=1)
    """Maximum size of an upload over SFTP."""

    sftp_max_handles: int = Field(16, ge=1)
    """Maximum open files of an SFTP session; the same for listings."""

    sftp_max_startups: int = Field(100, ge=1)
    """
    Maximum connections that have not logged in (sshd's MaxStartups). A further connection ends the
    longest waiting.
    """

    sftp_max_startups_per_address: int = Field(20, ge=1)
    """The same per address, or per IPv6 network of 64 bits."""

    sftp_max_sessions: int = Field(100, ge=1)
    """Maximum connections that have logged in."""

    sftp_max_sessions_per_partner: int = Field(10, ge=1)
    """Maximum connections per partner; the same for SFTP sessions."""

    callback_hosts: tuple[str, ...] = ()
    """
    Hosts that callbacks may go to (`callback_url` of a metadata file), as JSON: `["a.example",
    "*.b.example"]`. None: no callback is ever sent.
    """

    api_host: str = "0.0.0.0"  # noqa: S104 - a container's own
    """Address of the REST doors."""

    api_port: int = Field(8082, ge=0, le=65535)
    """Port of the REST doors; 0 takes a free port and reports it."""

    api_public_url: str | None = None
    """
    URL of the REST doors for partners, such as `https://audiences.example`: upload URLs begin with
    it. Unset: as the request addressed us.
    """

    api_tls_cert: Path | None = None
    """Certificate chain of the REST doors, PEM; unset: no TLS."""

    api_tls_key: Path | None = None
    """Private key for `SEGMENTS_API_TLS_CERT`, PEM, without a passphrase."""

    trusted_proxies: tuple[IPvAnyNetwork, ...] = ()
    """
    Networks of the proxies in front of the REST doors, as JSON: `["10.0.0.0/8"]`. Their
    `X-Forwarded-For` is trusted, and failed logins are counted by the client's address in it; the
    limit of connections per address does not apply to them. None: failed logins are counted by the
    address of the connection.
    """

    api_token_s: int = Field(3600, ge=1, le=S_PER_DAY)
    """Validity of an access token in seconds; after that its refresh token gets another."""

    api_refresh_days: int = Field(30, ge=1, le=3650)
    """For how many days a login can be refreshed without the password."""

    api_max_startups: int = Field(500, ge=1)
    """
    Maximum connections of unknown clients at the REST doors: idle, before TLS is established, or
    during a request that is not authenticated yet. A further connection ends the longest waiting.
    """

    api_max_startups_per_address: int = Field(100, ge=1)
    """The same per address, or per IPv6 network of 64 bits."""

    api_requests_per_s: float = Field(100.0, gt=0)
    """
    Sustained rate of an account at the REST doors, in requests per second; more are answered 429.
    """

    api_requests_burst: int = Field(1000, ge=1)
    """How many requests an account may make at once before that rate applies."""

    console_port: int | None = Field(None, ge=0, le=65535)
    """
    Port of the console; 0 takes a free port and reports it. Unset: 8083, in `up` and in
    `rtb-segments console`.
    """

    console_host: str = "127.0.0.1"
    """
    Address of the console. Any other than loopback needs TLS, by its certificate or by a proxy.
    """

    console_staff_port: int | None = Field(None, ge=0, le=65535)
    """
    A port of their own for operators and privacy desks, which partners never reach. Unset: the
    console's port serves all.
    """

    console_public_url: str | None = None
    """
    URL of the console in browsers, such as `https://console.example`, where a proxy stands in front
    of it. With https the proxy ends TLS.
    """

    console_tls_cert: Path | None = None
    """Certificate chain of the console, PEM; unset: no TLS."""

    console_tls_key: Path | None = None
    """Private key for `SEGMENTS_CONSOLE_TLS_CERT`, PEM, without a passphrase."""

    console_listeners: Annotated[tuple[str, ...], NoDecode, BeforeValidator(texts)] = ()
    """
    URLs of the bid listeners' admin ports, comma-separated: the console shows what they count, and
    asks them to explain bids, if they have the same `RTB_EXPLAIN_SECRET`. Unset: the one on this
    host.
    """

    up_console: Literal["yes", "no", "if_public"] = "yes"
    """
    Whether `up` starts the console. `if_public`: only with `SEGMENTS_CONSOLE_PUBLIC_URL`; so in the
    container image.
    """

    external_runs_per_day: int = Field(100, ge=1)
    """How many external runs a sandbox may begin per day (UTC)."""

    external_runs_per_audience: int = Field(10, ge=1)
    """The same per audience."""

    external_max_bytes: int = Field(10 * 10**9, ge=1)
    """Maximum total size of the files of an external run, as stored by the customer."""

    upload_url_s: int = Field(3600, ge=1, le=604_800)
    """Validity of an upload URL in seconds."""

    upload_max_bytes: int = Field(5 << 30, ge=1)
    """
    Maximum size of a file sent to an upload URL; a bucket's own URL also has a limit of 5 GiB.
    """

    upload_cors_origins: tuple[str, ...] = ()
    """
    Origins whose pages may PUT files from a browser to our upload URLs, as JSON:
    `["https://partner.example"]`. None: no page may. A bucket's own URL follows the bucket's CORS
    rules.
    """

    privacy_audience: str = "privacy-api.liveintent.com"
    """Required `aud` of a JWT at the Privacy API's legacy doors."""

    report_url_s: int = Field(3600, ge=1, le=604_800)
    """Validity of the URL of an access request's report, in seconds."""

    report_days: int = Field(7, ge=1, le=365)
    """How many days such a report is kept before it is deleted."""

    opt_out_wait_s: float = Field(3.0, ge=0, le=60)
    """
    If this process can't apply an opt-out, or a change by which bids show less, to the store: how
    many seconds the request waits for a loader to do so. After that the answer says that it is not
    in force yet.
    """

    flood_factor: float = Field(10.0, gt=1)
    """
    A flood of opt-outs exceeds the usual rate by more than this factor, and
    `SEGMENTS_FLOOD_IDS_PER_MINUTE`; loader and console warn of it, and all are applied.
    """

    flood_ids_per_minute: int = Field(1000, ge=1)
    """Minimum rate of a flood of opt-outs, in ids per minute, however low the usual rate is."""

    publish_key_file: Path | None = None
    """
    Private key that signs the publications of `rtb-segments publish`, PEM; `rtb-segments key
    publish` makes it.
    """

    publish_opt_outs_s: float = Field(5.0, ge=1, le=60)
    """
    Minimum interval between publications of opt-outs, in seconds, and so their maximum delay; after
    a pause the first is published within a second.
    """

    publish_changes_s: float = Field(10.0, ge=1, le=3600)
    """Interval between publications of changed buckets, in seconds."""

    publish_full_days: float = Field(7.0, gt=0, le=10)
    """
    Interval between fulls, in days; shorter than the time after which some buckets delete files.
    """

    publish_port: int | None = Field(None, ge=0, le=65535)
    """Port of health and metrics of `rtb-segments publish`; unset: none."""

    @field_validator("api_public_url", "console_public_url")
    @classmethod
    def _check_public_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        if scheme_of(url) not in ("http", "https") or not urlsplit(url).netloc:
            raise ValueError("not a URL that begins with http:// or https://")
        if urlsplit(url).query or urlsplit(url).fragment:
            raise ValueError("a URL with a query or a fragment")
        return url.rstrip("/")

    @field_validator("console_listeners")
    @classmethod
    def _check_console_listeners(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
                raise ValueError("URLs such as http://10.0.0.1:8081, with a comma between them")
        return urls

    @field_validator("console_public_url")
    @classmethod
    def _check_console_public_url(cls, url: str | None) -> str | None:
        if url is not None and urlsplit(url).path:
            raise ValueError("a URL with a path: the console needs a host name or port of its own")
        return url

    @field_validator("trusted_proxies")
    @classmethod
    def _check_trusted_proxies(cls, networks: tuple[Network, ...]) -> tuple[Network, ...]:
        if not all(network.prefixlen for network in networks):
            raise ValueError("a network of all addresses: any client could claim any address")
        return networks

    @field_validator("redis_url", "bids_redis_url")
    @classmethod
    def _check_redis_url(cls, url: str | None) -> str | None:
        if url is not None:
            check_store_url(url)
        return url

    @field_validator("ledger_url")
    @classmethod
    def _check_ledger_url(cls, url: str | None) -> str | None:
        if url is not None:
            check_ledger_url(url)
        return url

    @property
    def embedded_store(self) -> bool:
        """Whether we run the store ourselves: no other is set."""
        return self.redis_url is None

    @property
    def embedded_in(self) -> Path | None:
        """The directory of the embedded store; `None`: another store is set."""
        return self.data_dir if self.embedded_store else None

    @property
    def store_url(self) -> str:
        """
        The URL of the store in use, in the form of `segments.store.servers.connection.connect`.
        """
        return store_url(self.redis_url, self.data_dir)

    @property
    def bids_store_url(self) -> str:
        """The bid listener's URL of the same store."""
        return store_url(self.bids_redis_url or self.redis_url, self.data_dir)

    @property
    def blobs_at(self) -> str | Path:
        """The URL or directory of the blobs, for `segments.files.blobs`."""
        return self.data_dir / "blobs" if self.blob_url is None else self.blob_url

    @property
    def spool_dir(self) -> Path:
        """The directory of spools, while files are loaded or scrubbed."""
        return self.data_dir / "spool"

    @property
    def drop_folder(self) -> Path:
        """The directory of the drop folders."""
        return self.data_dir / "drop" if self.drop_dir is None else self.drop_dir

    @property
    def abandoned_after_s(self) -> float:
        """`abandoned_upload_days` in seconds."""
        return float(self.abandoned_upload_days * S_PER_DAY)

    @property
    def ledger_dsn(self) -> str:
        """
        The URL of the ledger in use, `sqlite+aiosqlite` for SQLAlchemy or `postgresql` for asyncpg.
        It may contain a password.
        """
        if self.ledger_url is None:
            return embedded_ledger_url(self.data_dir)
        return url_for_engine(self.ledger_url)

    @property
    def api_tls(self) -> TlsFiles | None:
        """The TLS files of the REST doors; `None`: no TLS."""
        return tls_files("SEGMENTS_API", self.api_tls_cert, self.api_tls_key)

    @property
    def console_tls(self) -> TlsFiles | None:
        """The TLS files of the console; `None`: no TLS."""
        return tls_files("SEGMENTS_CONSOLE", self.console_tls_cert, self.console_tls_key)

    @property
    def admin_tls(self) -> TlsFiles | None:
        """The TLS files of health and metrics; `None`: no TLS."""
        return tls_files("SEGMENTS_ADMIN", self.admin_tls_cert, self.admin_tls_key)

    @property
    def loader_options(self) -> LoaderOptions:
        """The options of a loader."""
        return LoaderOptions(
            expected_ids=self.expected_ids,
            rebuilds_when_empty=self.rebuild_when_empty,
            spool_dir=self.spool_dir,
            reserve_bytes=self.reserve_bytes,
            jobs_at_once=self.loader_jobs,
            max_removed_share=self.remove_brake_share,
            abandoned_after_s=self.abandoned_after_s,
            scrub_within_s=self.scrub_within_h * 3600,
            refused_file_s=self.refused_file_h * 3600,
            flood=self.flood_limits,
        )

    @property
    def flood_limits(self) -> FloodLimits:
        """The rate of opt-outs that is a flood."""
        return FloodLimits(self.flood_factor, self.flood_ids_per_minute)

    @property
    def publish_options(self) -> PublishOptions:
        """The intervals of publishing."""
        return PublishOptions(
            opt_outs_every_s=self.publish_opt_outs_s,
            changes_every_s=self.publish_changes_s,
            full_every_s=self.publish_full_days * S_PER_DAY,
        )

    @property
    def drop_options(self) -> DropOptions:
        """The options of the drop folders."""
        return DropOptions(
            wait_s=self.drop_wait_s,
            quiet_s=self.drop_quiet_s,
            abandoned_after_s=self.abandoned_after_s,
            refused_file_s=self.refused_file_h * 3600,
            answers_kept_s=float(self.status_days * S_PER_DAY),
        )

    @property
    def sftp_options(self) -> SftpOptions:
        """The options of the SFTP server."""
        return SftpOptions(
            host=self.sftp_host,
            port=self.sftp_port,
            key_dir=self.data_dir / "sftp",
            max_startups=self.sftp_max_startups,
            max_startups_per_address=self.sftp_max_startups_per_address,
            max_sessions=self.sftp_max_sessions,
            max_sessions_per_partner=self.sftp_max_sessions_per_partner,
            max_file_bytes=self.sftp_max_file_bytes,
            reserve_bytes=self.reserve_bytes,
            max_handles=self.sftp_max_handles,
        )

    @property
    def rest_options(self) -> RestOptions:
        """The options that all REST doors share."""
        return RestOptions(
            public_url=self.api_public_url,
            token_s=self.api_token_s,
            refresh_s=float(self.api_refresh_days * S_PER_DAY),
            requests_per_s=self.api_requests_per_s,
            requests_burst=self.api_requests_burst,
            opt_out_wait_s=self.opt_out_wait_s,
            proxies=Proxies(self.trusted_proxies),
        )

    @property
    def api_limits(self) -> Limits:
        """The limits on unknown clients at the port of the REST doors."""
        return Limits(
            max_startups=self.api_max_startups,
            max_startups_per_address=self.api_max_startups_per_address,
            proxies=Proxies(self.trusted_proxies),
        )

    @property
    def console_options(self) -> ConsoleOptions:
        """The options of the console."""
        return ConsoleOptions(
            host=self.console_host,
            port=CONSOLE_PORT if self.console_port is None else self.console_port,
            staff_port=self.console_staff_port,
            public_url=self.console_public_url,
            is_tls=self.console_tls is not None,
            upload_max_bytes=self.upload_max_bytes,
            api_url=self.api_public_url,
            flood=self.flood_limits,
        )

    @property
    def listeners(self) -> Listeners:
        """The bid listeners that explain bids."""
        here = f"http://127.0.0.1:{self.bids_admin_port}"
        return Listeners(self.console_listeners or (here,), self.explain_secret)

    @property
    def is_console_up(self) -> bool:
        """Whether `up` starts the console."""
        is_public = self.console_public_url is not None
        return self.up_console == "yes" or (self.up_console == "if_public" and is_public)

    @property
    def audience_options(self) -> AudienceOptions:
        """The options of the Audience API."""
        return AudienceOptions(
            expected_ids=self.expected_ids,
            upload_url_s=self.upload_url_s,
            upload_max_bytes=self.upload_max_bytes,
            upload_cors_origins=self.upload_cors_origins,
        )

    @property
    def external_options(self) -> ExternalOptions:
        """The options of external audiences."""
        return ExternalOptions(
            runs_per_day=self.external_runs_per_day,
            runs_per_audience=self.external_runs_per_audience,
            max_bytes=self.external_max_bytes,
            max_replaced_share=self.replace_brake_share,
        )

    @property
    def privacy_options(self) -> PrivacyOptions:
        """The options of the Privacy Management API."""
        return PrivacyOptions(
            audience=self.privacy_audience,
            callback_hosts=self.callback_hosts,
            opt_out_wait_s=self.opt_out_wait_s,
            report_url_s=self.report_url_s,
            report_days=self.report_days,
        )

    @model_validator(mode="after")
    def _check_tls(self) -> "Settings":
        """
        Refuse a certificate or key without the other, and upload URLs that would not reach us.
        """
        _ = self.admin_tls, self.console_tls
        if self.api_tls and self.api_public_url and scheme_of(self.api_public_url) != "https":
            raise ValueError(
                "SEGMENTS_API_PUBLIC_URL: begins with http://, while SEGMENTS_API_TLS_CERT is set"
            )
        return self
