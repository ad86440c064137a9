"""
The bid path: two pure functions around one wait.

    decode -> strip -> identify -> consent -> (lookup) -> opt-outs -> segments -> additions

`ask` does everything that needs no store, `answer` the rest. Between them is no task or future: the
edge keeps the question and gets a callback. Both only compute, on the caller's bytes and time.

Changes are only proposed: answer forms, such as `rtb.openrtb.inject`, apply `Result.additions`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from math import inf
from typing import Final, final

from mypy_extensions import mypyc_attr

from rtb.catalog import Catalog, Partner, Recipient
from rtb.consent.decision import Policy, refusal
from rtb.id_rules import IdRule
from rtb.identify import Identify
from rtb.openrtb.additions import Additions, Offer, additions
from rtb.openrtb.copies import MAX_UIDS
from rtb.openrtb.decode import Decoder
from rtb.openrtb.inventory import publisher_ids
from rtb.openrtb.request import Request
from rtb.openrtb.strip import Strip
from rtb.outcome import MalformedRequest, Outcome, Reason
from segments.model.identity import Id, IdentifierKind
from segments.model.record import CorruptRecord, OptOut, day_of, live

# A lookup in an Enum costs 90 ns on Python 3.11.
_ENRICHED, _NO_IDENTITY, _NONE = Outcome.ENRICHED, Outcome.NO_IDENTITY, Reason.NONE


@dataclass(frozen=True, slots=True)
class PipelineOptions:
    """A deployment's choices; see `rtb.settings`."""

    id_rules: tuple[IdRule, ...]
    strip_paths: tuple[str, ...]
    max_ids: int
    max_segments: int
    consent: Policy


@final
@mypyc_attr(acyclic=True)
class Result:
    """
    The result of a bid request.

    Attributes:
        body: The unenriched request: as received, without the stripped fields.
        reason: May be empty.
        additions: The additions to `body`; `None` unless the outcome is `ENRICHED`.
        stripped: Configured paths that were removed.
    """

    __slots__ = ("additions", "body", "outcome", "reason", "stripped")

    def __init__(
        self,
        body: bytes,
        outcome: Outcome,
        reason: Reason = _NONE,
        additions: Additions | None = None,
        stripped: tuple[str, ...] = (),
    ) -> None:
        self.body: Final = body
        self.outcome: Final = outcome
        self.reason: Final = reason
        self.additions: Final = additions
        self.stripped: Final = stripped

    def __eq__(self, other: object) -> bool:
        """Compare all attributes."""
        return isinstance(other, Result) and (
            self.body == other.body
            and self.outcome is other.outcome
            and self.reason is other.reason
            and self.additions is other.additions
            and self.stripped == other.stripped
        )

    __hash__ = None  # type: ignore[assignment] # results are never in sets


@final
@mypyc_attr(acyclic=True)
class Question:
    """
    A bid request that waits for the store.

    Attributes:
        request: As it leaves.
        stripped: Configured paths that were removed.
        ids: To look up, distinct, the most trusted first.
        kinds: Of each id.
        catalog: The catalog for the answer.
    """

    __slots__ = ("catalog", "ids", "kinds", "recipient", "request", "stripped")

    def __init__(
        self,
        request: Request,
        stripped: tuple[str, ...],
        ids: tuple[Id, ...],
        kinds: tuple[IdentifierKind, ...],
        recipient: Recipient,
        catalog: Catalog,
    ) -> None:
        self.request: Final = request
        self.stripped: Final = stripped
        self.ids: Final = ids
        self.kinds: Final = kinds
        self.recipient: Final = recipient
        self.catalog: Final = catalog

    @property
    def body(self) -> bytes:
        """The unenriched request."""
        return self.request.body

    @property
    def tmax_ms(self) -> float | None:
        """`BidRequest.tmax` (3.2.1), of any size; `None`: no number."""
        tmax = self.request.tmax
        if type(tmax) is int:
            # An integer may be larger than any double.
            return inf if tmax > _MOST_MS else float(max(tmax, 0))
        return tmax if type(tmax) is float else None

    def passed(self, outcome: Outcome, reason: Reason = _NONE) -> Result:
        """Return the request unenriched."""
        return Result(self.request.body, outcome, reason, None, self.stripped)


class Pipeline:
    """
    The stages, built once from the options.

    Args:
        read: Reads another form into an equivalent bid request's `Request`, perhaps by the decoder.

    Raises:
        ValueError: An id rule leads to a signal or to eids.
    """

    def __init__(
        self,
        options: PipelineOptions,
        read: Callable[[bytes, Decoder], Request] | None = None,
    ) -> None:
        paths = [rule.path for rule in options.id_rules if rule.path is not None]
        self.decode = Decoder(paths, options.strip_paths)
        self._read = read
        self.strip = Strip(self.decode)
        self.identify = Identify(options.id_rules, self.decode)
        self.policy = options.consent
        self.max_ids = options.max_ids
        self._max_segments = options.max_segments

    def ask(self, body: bytes, recipient: Recipient, catalog: Catalog) -> Question | Result:
        """
        Do the half that needs no store.

        Args:
            body: As received, decompressed.
            recipient: From this catalog.
            catalog: Also for the answer.

        Returns:
            A `Question` for the store, or the `Result` if none is needed.

        Raises:
            MalformedRequest: `body` is not a bid request; the edge answers 400.
        """
        return self.ask_of(self.request_of(body), recipient, catalog)

    def request_of(self, body: bytes) -> Request:
        """
        Do the first stage alone.

        Raises:
            MalformedRequest: See `ask`.
        """
        read = self._read
        return self.decode(body) if read is None else read(body, self.decode)

    def ask_of(self, request: Request, recipient: Recipient, catalog: Catalog) -> Question | Result:
        """
        As `ask`, for a decoded request.

        Raises:
            MalformedRequest: A field to strip can't be removed.
        """
        try:
            leaving, stripped = self.strip(request)
        except RecursionError:
            raise MalformedRequest(Reason.TOO_DEEP) from None

        if len(request.uids) > MAX_UIDS:
            return Result(leaving.body, Outcome.NO_CONSENT, Reason.TOO_MANY_IDS, None, stripped)
        ids, kinds = self.identify(request)
        if not ids:
            return Result(leaving.body, _NO_IDENTITY, _NONE, None, stripped)

        # Consent follows identify because it gates the lookup: so far we have only read what the
        # exchange sent.
        reason = refusal(request, self.policy)
        if not reason and len(ids) > self.max_ids:
            reason = Reason.TOO_MANY_IDS
        if reason:
            return Result(leaving.body, Outcome.NO_CONSENT, reason, None, stripped)

        return Question(leaving, stripped, ids, kinds, recipient, catalog)

    def answer(self, question: Question, found: Sequence[bytes | None], now_s: float) -> Result:
        """
        Make the result from the store's reply.

        Args:
            question: From `ask`.
            found: The packed record of each id, in order; `None`: no record.
            now_s: Unix time, for activation windows and expiry.
        """
        try:
            opt_outs, audience_ids = live_of_all(found, now_s)
        except CorruptRecord:
            return question.passed(Outcome.STORE_DOWN, Reason.CORRUPT_RECORD)

        silenced = silenced_owners(question, opt_outs) if opt_outs else _NOBODY
        if silenced is None:
            return question.passed(Outcome.OPTED_OUT)

        recipient = question.recipient
        offers = self.offers(recipient, audience_ids, silenced, now_s)
        if not offers:
            is_told = not silenced.isdisjoint(recipient.owner_ids)
            return question.passed(Outcome.OPTED_OUT if is_told else Outcome.NO_MATCH)

        if recipient.hold_out and recipient.holds_out(first_found(question.ids, found)):
            return question.passed(Outcome.HELD_OUT)

        proposed = additions(question.request, offers)
        if isinstance(proposed, Reason):
            return question.passed(Outcome.NO_MATCH, proposed)
        return Result(question.request.body, _ENRICHED, _NONE, proposed, question.stripped)

    def offers(
        self,
        recipient: Recipient,
        audience_ids: Iterable[int],
        silenced: frozenset[int],
        now_s: float,
    ) -> list[Offer]:
        """Each partner's segments of this person for the recipient, now."""
        segment_of = recipient.segments.get
        partner_to_shown: dict[Partner, dict[str, bytes]] = {}
        partner: Partner | None = None  # of the previous segment, and likely of this one
        shown: dict[str, bytes] = {}
        for audience_id in audience_ids:
            segment = segment_of(audience_id)
            if (
                segment is not None
                and segment.live_from_s <= now_s < segment.live_until_s
                and not (silenced and segment.owner_id in silenced)
            ):
                if segment.partner is not partner:
                    partner = segment.partner
                    shown = partner_to_shown.setdefault(partner, {})
                shown[segment.segment_id] = segment.json
        return [
            Offer(partner.data_id, partner.segtax, partner.head, partner.tail, self._limited(shown))
            for partner, shown in partner_to_shown.items()
        ]

    def _limited(self, shown: dict[str, bytes]) -> dict[str, bytes]:
        if len(shown) <= self._max_segments:
            return shown
        return dict(islice(shown.items(), self._max_segments))


_MOST_MS: Final = 10**15
_NOBODY: Final[frozenset[int]] = frozenset()


def live_of_all(found: Sequence[bytes | None], now_s: float) -> tuple[list[OptOut], list[int]]:
    """
    Return the opt-outs of all records, and the audiences of the live memberships.

    Raises:
        CorruptRecord: A record can't be read.
    """
    today = day_of(now_s)
    opt_outs: list[OptOut] = []
    audience_ids: list[int] = []
    for packed in found:
        if packed is not None:
            opt_outs_of_id, audience_ids_of_id = live(packed, today)
            opt_outs += opt_outs_of_id
            audience_ids += audience_ids_of_id
    return opt_outs, audience_ids


def silenced_owners(question: Question, opt_outs: Iterable[OptOut]) -> frozenset[int] | None:
    """
    Return the owners suppressed by opt-outs.

    An opt-out of any id counts: all are the person's.

    Returns:
        `None`: everything is suppressed, globally or by the inventory's publisher.
    """
    reach = question.catalog.reach_of([opt_out.account_id for opt_out in opt_outs])
    if reach is None:
        return None
    if reach.publisher_ids:
        ids = publisher_ids(question.request)
        if ids is None or not reach.publisher_ids.isdisjoint(ids):
            return None
    return reach.owner_ids


def first_found(ids: Sequence[Id], found: Sequence[bytes | None]) -> Id:
    """Return the most trusted id that the store knows; there is at least one."""
    return next(id_ for id_, packed in zip(ids, found, strict=True) if packed is not None)
