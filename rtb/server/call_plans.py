"""
ARTF's recipients, and the plan for each under the catalog in force.

Settings name ARTF's recipient: a single name, or, for a host that calls for several, a name for
each originator of bid requests.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from rtb.catalog import Recipient
from rtb.openrtb.mutations import MutationForm, metadata_of
from rtb.outcome import OutcomeHeader
from rtb.pipeline import Result
from rtb.server.answer_forms import Form, heads_of
from rtb.server.bids import Bids, Route
from rtb.server.http.grpc import MEDIA_TYPE
from rtb.server.metrics.layout import CALLS, PROTOCOLS, timings_of

if TYPE_CHECKING:
    from rtb.settings import RtbSettings


class CallOptions(NamedTuple):
    """
    A deployment's decisions about calls; see `rtb.settings`.

    Attributes:
        recipient: The recipient's name, or names by originator; `None`: not set.
        names_partner: `None`: unless the recipient has a single partner.
        tells_reason: Answer the debug header with the bid's reason.
    """

    recipient: str | Mapping[str, str] | None
    default_recipient: str | None
    allow_unnamed_recipient: bool
    names_partner: bool | None
    one_each: bool
    tmax_share: float
    max_body_bytes: int
    outcome_header: OutcomeHeader
    tells_reason: bool

    @property
    def is_open(self) -> bool:
        """Whether any call can have a recipient."""
        return (
            bool(self.recipient)
            or self.default_recipient is not None
            or self.allow_unnamed_recipient
        )


def call_options_of(settings: "RtbSettings") -> CallOptions:
    """Return the options of the settings."""
    id_form = settings.artf_id
    return CallOptions(
        recipient=settings.artf_recipient,
        default_recipient=settings.default_recipient,
        allow_unnamed_recipient=settings.allow_unnamed_recipient,
        names_partner=None if id_form is None else id_form == "partner:segment",
        one_each=settings.artf_ids_per_mutation == 1,
        tmax_share=settings.artf_tmax_share,
        max_body_bytes=settings.max_body_bytes,
        outcome_header=settings.outcome_header,
        tells_reason=settings.debug_header,
    )


class Plan(NamedTuple):
    """The route and forms for a recipient's calls, under the catalog in force."""

    route: Route
    form: MutationForm
    metadata: bytes


class Plans:
    """
    A plan for each recipient that calls.

    Args:
        bids: The bids with the catalog in force.
        options: The deployment's options.
    """

    __slots__ = (
        "_bids",
        "_by_originator",
        "_catalog",
        "_form",
        "_name_to_plan",
        "nobody",
        "options",
    )

    def __init__(self, bids: Bids, options: CallOptions) -> None:
        self._bids = bids
        self.options = options
        recipient = options.recipient
        self._by_originator = None if recipient is None or isinstance(recipient, str) else recipient
        heads = heads_of(200, options.outcome_header, MEDIA_TYPE)
        self._form = Form(_nothing, heads, heads)
        self.nobody = self._route_to(Recipient(None, {}, 0.0))
        """The route that counts calls without a known recipient."""
        self._catalog = bids.catalog
        self._name_to_plan: dict[str | None, Plan | None] = {}

    @property
    def is_by_originator(self) -> bool:
        """Whether the message decides the recipient."""
        return self._by_originator is not None

    def plan_of(self, originator: str | None) -> Plan | None:
        """Return the plan for a call; `None`: it has no recipient."""
        options, bids = self.options, self._bids
        if bids.catalog is not self._catalog:
            self._catalog = bids.catalog
            self._name_to_plan.clear()
        by_originator = self._by_originator
        if by_originator is None:
            recipient = options.recipient
            name = recipient if isinstance(recipient, str) else None
        else:
            name = None if originator is None else by_originator.get(originator)
        if name is None:
            name = options.default_recipient
        if name not in self._name_to_plan:
            self._name_to_plan[name] = self._planned(name)
        return self._name_to_plan[name]

    def _planned(self, name: str | None) -> Plan | None:
        options, bids = self.options, self._bids
        if name is None and (self.is_by_originator or not options.allow_unnamed_recipient):
            return None
        # A blind worker passes every request through.
        recipient = bids.catalog.recipient(None if bids.is_blind else name)
        if recipient is None:
            return None
        names_partner = options.names_partner
        if names_partner is None:
            names_partner = recipient.partners != 1
        return Plan(
            self._route_to(recipient),
            MutationForm(names_partner, options.one_each),
            metadata_of(bids.catalog.version),
        )

    def _route_to(self, recipient: Recipient) -> Route:
        cells = self._bids.counters.requests_of(recipient.name)
        times = timings_of(PROTOCOLS[1], CALLS)
        return Route(
            self._form,
            recipient,
            cells,
            times,
            http2_timings=times,
            says_gzip=False,
            pipeline=None,
            tmax_share=self.options.tmax_share,
        )


def _nothing(_: Result) -> bytes:
    return b""
