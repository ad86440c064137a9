"""
What an operator sets: environment variables, or lines of a `.env` file.

Read once, when a process starts, and frozen. A setting that is wrong stops the
process before it has done anything, with one line for each that names the
variable as the operator typed it. Passwords stand in URLs, so no URL is ever
quoted: not in these lines, not in the `repr` of the settings.

Composition roots read them. Each room below takes its own share: a few values, or one
of the frozen options that are made here.
"""

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from segments.doors.audience_api.options import AudienceOptions
from segments.doors.external_audience.options import ExternalOptions
from segments.doors.live_audience.options import DropOptions
from segments.doors.privacy.options import PrivacyOptions
from segments.doors.rest.options import RestOptions
from segments.doors.sftp.options import SftpOptions
from segments.loader.options import LoaderOptions
from segments.model.day import S_PER_DAY
from segments.runtime.ledger_url import check_ledger_url, embedded_ledger_url, url_for_engine
from segments.runtime.operator_settings import OperatorSettings
from segments.runtime.store_url import check_store_url, scheme_of, store_url
from segments.runtime.tls import TlsFiles, tls_files


class Settings(OperatorSettings):
    """What every process of the control plane reads; each field is `SEGMENTS_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="SEGMENTS_")

    data_dir: Path = Path("data")
    """Where the embedded store, the SQLite ledger and the local blobs live."""

    redis_url: str | None = Field(None, repr=False)
    """
    The membership store: `redis://`, `rediss://` or `unix://`, `redis+cluster://` or
    `redis+sentinel://` as `segments.store.servers.connection` has them. Unset: the embedded
    store, on a socket in `data_dir`.
    """

    ledger_url: str | None = Field(None, repr=False)
    """
    The ledger: `sqlite+aiosqlite:///FILE`, or a database of its own on PostgreSQL,
    `postgresql://USER:PASSWORD@HOST/DATABASE`, with what else libpq's URLs may
    say. Unset: `ledger.db` in `data_dir`.
    """

    blob_url: str | None = Field(None, repr=False)
    """Where delivered files are kept. Unset: `blobs` in `data_dir`."""

    expected_ids: int = Field(1_000_000, ge=1, le=10**12)
    """
    How many persons a new store is laid out for, within a factor of three or
    so. A store that exists keeps the layout that it was created with.
    """

    remove_brake_share: float = Field(1.0, gt=0, le=1)
    """
    A file that removes more than this fraction of an audience's members is held
    until `rtb-segments release`. 1 holds none.
    """

    replace_brake_share: float = Field(0.5, gt=0, le=1)
    """The same of a file that replaces an audience, and so removes whom it does not name."""

    refused_file_h: float = Field(24.0, ge=0, le=168)
    """
    For how many hours a delivered file is kept that was refused for its metadata (errors
    1 to 7), so that corrected metadata find it; 0 keeps none. One that was refused for its
    content (error 8) goes with the answer.
    """

    scrub_within_h: float = Field(24.0, gt=0, le=8760)
    """
    Within how many hours of an ERASURE its ids are gone from every delivered
    file that is kept. They are out of every bid at once.
    """

    loader_port: int | None = Field(None, ge=0, le=65535)
    """The port on which the loader shows its health, and its metrics to Prometheus; unset: none."""

    loader_host: str = "127.0.0.1"
    """The address of that port."""

    sftp_admin_port: int | None = Field(None, ge=0, le=65535)
    """Likewise of the SFTP server; unset: none."""

    api_admin_port: int | None = Field(None, ge=0, le=65535)
    """
    The port on which the REST doors show their metrics; unset: none. Never the
    partners' port: what is counted is no business of theirs.
    """

    admin_host: str = "127.0.0.1"
    """The address of these two ports; `0.0.0.0` in a container that Prometheus comes to."""

    admin_tls_cert: Path | None = None
    """Certificate chain of the three ports of health and metrics, PEM; unset: no TLS."""

    admin_tls_key: Path | None = None
    """Its key, PEM, without a passphrase."""

    abandoned_upload_days: int = Field(7, ge=2, le=3650)
    """
    A file that was begun and never finished is deleted after so many days
    without another byte; so is one in the bucket that no upload URL was for, and
    a data file in a drop folder that no metadata file has asked for.
    """

    drop_dir: Path | None = None
    """
    Where partners' folders lie, one for each `partner_id`: what the SFTP server
    shows, or what a server of your own writes to. Unset: `drop` in `data_dir`.
    """

    drop_wait_s: float = Field(3600.0, gt=0)
    """How long a metadata file waits for its data file before "File not found" is answered."""

    drop_quiet_s: float = Field(10.0, ge=0)
    """
    A file that did not come by our SFTP server is taken for complete once nobody
    has written to it for so long.
    """

    status_days: int = Field(30, ge=1, le=3650)
    """For how long a `.status` file stays in its partner's folder."""

    sftp_host: str = "0.0.0.0"  # noqa: S104 - partners come from outside
    """The address that the SFTP server listens on."""

    sftp_port: int = Field(2222, ge=0, le=65535)
    """The port that the SFTP server listens on."""

    sftp_max_file_bytes: int = Field(5 << 30, ge=1)
    """How large a file a partner may upload."""

    sftp_max_handles: int = Field(16, ge=1)
    """How many files one SFTP session may hold open, and as many listings."""

    sftp_max_startups: int = Field(100, ge=1)
    """
    How many connections there may be that have not logged in (sshd's MaxStartups). For one
    more, the one that has waited longest is ended.
    """

    sftp_max_startups_per_address: int = Field(20, ge=1)
    """How many of them from one address, or one IPv6 network of 64 bits; likewise."""

    sftp_max_sessions: int = Field(100, ge=1)
    """How many connections that have logged in the SFTP server holds at a time."""

    sftp_max_sessions_per_partner: int = Field(10, ge=1)
    """How many connections, and how many SFTP sessions, one partner may have open."""

    callback_hosts: tuple[str, ...] = ()
    """
    Hosts to which a status may be POSTed (a metadata file's `callback_url`), as
    JSON: `["a.example", "*.b.example"]`. None: no callback is ever sent.
    """

    api_host: str = "0.0.0.0"  # noqa: S104 - a container's own
    """The address that the REST doors listen on."""

    api_port: int = Field(8082, ge=0, le=65535)
    """The port of the REST doors; 0 takes a free one and says which."""

    api_public_url: str | None = None
    """
    How partners reach the REST doors, as `https://audiences.example`: what
    upload URLs begin with. Unset: as the request named us.
    """

    api_tls_cert: Path | None = None
    """Certificate chain of the REST doors, PEM; unset: no TLS."""

    api_tls_key: Path | None = None
    """Its key, PEM, without a passphrase."""

    api_token_s: int = Field(3600, ge=1, le=S_PER_DAY)
    """For how long an access token is good; then its refresh token gets another."""

    api_refresh_days: int = Field(30, ge=1, le=3650)
    """For how long a login can be refreshed without the password."""

    api_requests_per_s: float = Field(100.0, gt=0)
    """How many requests a second an account may make at the REST doors, in the long run."""

    api_requests_burst: int = Field(1000, ge=1)
    """How many of them at once."""

    external_runs_per_day: int = Field(100, ge=1)
    """How many ingestions of external audiences a sandbox may begin in a day (UTC)."""

    external_runs_per_audience: int = Field(10, ge=1)
    """How many of them of one audience."""

    external_max_bytes: int = Field(10 * 10**9, ge=1)
    """How large the files of one ingestion may be together, as they lie there."""

    upload_url_s: int = Field(3600, ge=1, le=604_800)
    """For how long an upload URL is good."""

    upload_max_bytes: int = Field(5 << 30, ge=1)
    """Largest file by an upload URL; a bucket's own URL takes no more than 5 GiB either."""

    upload_cors_origins: tuple[str, ...] = ()
    """
    Origins whose pages may PUT a file to an upload URL of ours from a browser, as JSON:
    `["https://partner.example"]`. None: no page may. A bucket's own URL has the bucket's rules.
    """

    privacy_audience: str = "privacy-api.liveintent.com"
    """What the `aud` of a JWT of the Privacy API's legacy doors must be."""

    report_url_s: int = Field(3600, ge=1, le=604_800)
    """For how long the URL of an access request's report is good."""

    report_days: int = Field(7, ge=1, le=365)
    """For how long such a report is kept; then it is deleted."""

    opt_out_wait_s: float = Field(3.0, ge=0, le=60)
    """
    For how long an opt-out, or a change by which bids show less, is waited for that this
    process can't put into the store by itself: a loader may. Then it is answered that it is
    not in force yet.
    """

    flood_factor: float = Field(10.0, gt=1)
    """How many times the usual rate of opt-outs is a flood, of which the loader warns."""

    flood_ids_per_minute: int = Field(1000, ge=1)
    """The least rate of opt-outs, in ids a minute, that is a flood, however few are usual."""

    @field_validator("api_public_url")
    @classmethod
    def _check_api_public_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        if scheme_of(url) not in ("http", "https") or not urlsplit(url).netloc:
            raise ValueError("not a URL that begins with http:// or https://")
        if urlsplit(url).query or urlsplit(url).fragment:
            raise ValueError("a URL with a query or a fragment")
        return url.rstrip("/")

    @field_validator("redis_url")
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
        """We run the store ourselves: no other was named."""
        return self.redis_url is None

    @property
    def embedded_in(self) -> Path | None:
        """Where the store that we run ourselves lies; `None`: another was named."""
        return self.data_dir if self.embedded_store else None

    @property
    def store_url(self) -> str:
        """The URL of the store in use, as `segments.store.servers.connection.connect` takes it."""
        return store_url(self.redis_url, self.data_dir)

    @property
    def blobs_at(self) -> str | Path:
        """The URL of the blobs, or their directory, as `segments.files.blobs` takes either."""
        return self.data_dir / "blobs" if self.blob_url is None else self.blob_url

    @property
    def spool_dir(self) -> Path:
        """Where a file's ids lie while it is loaded or scrubbed."""
        return self.data_dir / "spool"

    @property
    def drop_folder(self) -> Path:
        """The folder of partners' folders."""
        return self.data_dir / "drop" if self.drop_dir is None else self.drop_dir

    @property
    def abandoned_after_s(self) -> float:
        """`abandoned_upload_days` in seconds."""
        return float(self.abandoned_upload_days * S_PER_DAY)

    @property
    def ledger_dsn(self) -> str:
        """
        The URL of the ledger in use: `sqlite+aiosqlite` as SQLAlchemy takes it,
        or `postgresql` as asyncpg does. It may hold a password.
        """
        if self.ledger_url is None:
            return embedded_ledger_url(self.data_dir)
        return url_for_engine(self.ledger_url)

    @property
    def api_tls(self) -> TlsFiles | None:
        """What the REST doors serve with, if with TLS."""
        return tls_files("SEGMENTS_API", self.api_tls_cert, self.api_tls_key)

    @property
    def admin_tls(self) -> TlsFiles | None:
        """What health and metrics are shown with, if with TLS."""
        return tls_files("SEGMENTS_ADMIN", self.admin_tls_cert, self.admin_tls_key)

    @property
    def loader_options(self) -> LoaderOptions:
        """The settings that a loader is made from."""
        return LoaderOptions(
            expected_ids=self.expected_ids,
            spool_dir=self.spool_dir,
            max_removed_share=self.remove_brake_share,
            abandoned_after_s=self.abandoned_after_s,
            scrub_within_s=self.scrub_within_h * 3600,
            refused_file_s=self.refused_file_h * 3600,
            flood_factor=self.flood_factor,
            flood_ids_per_minute=self.flood_ids_per_minute,
        )

    @property
    def drop_options(self) -> DropOptions:
        """The settings that the drop is made from."""
        return DropOptions(
            wait_s=self.drop_wait_s,
            quiet_s=self.drop_quiet_s,
            abandoned_after_s=self.abandoned_after_s,
            refused_file_s=self.refused_file_h * 3600,
            answers_kept_s=float(self.status_days * S_PER_DAY),
        )

    @property
    def sftp_options(self) -> SftpOptions:
        """The settings that the SFTP server is made from."""
        return SftpOptions(
            host=self.sftp_host,
            port=self.sftp_port,
            key_dir=self.data_dir / "sftp",
            max_startups=self.sftp_max_startups,
            max_startups_per_address=self.sftp_max_startups_per_address,
            max_sessions=self.sftp_max_sessions,
            max_sessions_per_partner=self.sftp_max_sessions_per_partner,
            max_file_bytes=self.sftp_max_file_bytes,
            max_handles=self.sftp_max_handles,
        )

    @property
    def rest_options(self) -> RestOptions:
        """The settings that all REST doors share."""
        return RestOptions(
            public_url=self.api_public_url,
            token_s=self.api_token_s,
            refresh_s=float(self.api_refresh_days * S_PER_DAY),
            requests_per_s=self.api_requests_per_s,
            requests_burst=self.api_requests_burst,
            opt_out_wait_s=self.opt_out_wait_s,
        )

    @property
    def audience_options(self) -> AudienceOptions:
        """The settings of the Audience API."""
        return AudienceOptions(
            expected_ids=self.expected_ids,
            upload_url_s=self.upload_url_s,
            upload_max_bytes=self.upload_max_bytes,
            upload_cors_origins=self.upload_cors_origins,
        )

    @property
    def external_options(self) -> ExternalOptions:
        """The settings of external audiences."""
        return ExternalOptions(
            runs_per_day=self.external_runs_per_day,
            runs_per_audience=self.external_runs_per_audience,
            max_bytes=self.external_max_bytes,
            max_replaced_share=self.replace_brake_share,
        )

    @property
    def privacy_options(self) -> PrivacyOptions:
        """The settings of the Privacy Management API."""
        return PrivacyOptions(
            audience=self.privacy_audience,
            callback_hosts=self.callback_hosts,
            opt_out_wait_s=self.opt_out_wait_s,
            report_url_s=self.report_url_s,
            report_days=self.report_days,
        )

    @model_validator(mode="after")
    def _check_tls(self) -> "Settings":
        """Refuse half of a pair, and upload URLs that would not reach us."""
        _ = self.admin_tls
        if self.api_tls and self.api_public_url and scheme_of(self.api_public_url) != "https":
            raise ValueError(
                "SEGMENTS_API_PUBLIC_URL: begins with http://, while SEGMENTS_API_TLS_CERT is set"
            )
        return self
