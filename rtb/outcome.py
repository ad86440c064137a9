"""
How a bid request can end here: a closed list.

The same word is the metric label, the `X-Enrich-Outcome` header and the row of
docs/bid-path.md. An outcome is an ordinary day; only `malformed` has someone who
must act, the sender.
"""

from enum import StrEnum


class Outcome(StrEnum):
    """What became of one bid request. In all but two the body leaves as it came."""

    ENRICHED = "enriched"  # segments were added to user.data
    NO_IDENTITY = "no_identity"  # no id that we look up
    NO_CONSENT = "no_consent"  # the request's own signals forbid it
    OPTED_OUT = "opted_out"  # the person told us no
    NO_MATCH = "no_match"  # an identity, and no live segment for this recipient
    HELD_OUT = "held_out"  # in the hold-out, left alone to measure against
    OUT_OF_TIME = "out_of_time"  # the deadline passed before the store answered
    STORE_DOWN = "store_down"  # the store is unreachable or can't be trusted
    SHED = "shed"  # more in flight than we take on
    MALFORMED = "malformed"  # not a bid request: 400

    # Enum's own is a function of Python, and runs at each look into a dictionary.
    __hash__ = str.__hash__


class OutcomeHeader(StrEnum):
    """How much `X-Enrich-Outcome` tells of an answer's ending."""

    FULL = "full"  # the outcome
    COARSE = "coarse"  # `enriched`, or `passed`: nobody reads from it that a person said no


class Reason(StrEnum):
    """Why a request ended so; the metric's second label. Most endings need none."""

    NONE = ""
    # no_consent
    COPPA = "coppa"  # regs.coppa = 1
    LMT = "lmt"  # device.lmt = 1, or device.ext.atts that is not 3
    DNT = "dnt"  # device.dnt = 1, where configured
    GPC = "gpc"  # regs.ext.gpc = "1"
    US_PRIVACY_OPT_OUT = "us_privacy_opt_out"  # third character Y
    US_PRIVACY_UNREADABLE = "us_privacy_unreadable"
    TCF_MISSING = "tcf_missing"  # GDPR applies and there is no TC string
    TCF_UNREADABLE = "tcf_unreadable"
    TCF_NO_PURPOSE = "tcf_no_purpose"  # no consent for one of the purposes that we need
    TCF_NO_VENDOR = "tcf_no_vendor"  # no consent for us
    TCF_NOT_DISCLOSED = "tcf_not_disclosed"  # we were not shown to the person, or nothing says so
    TCF_RESTRICTED = "tcf_restricted"  # the publisher forbids us a purpose that we need
    GPP_MISSING = "gpp_missing"  # gpp_sid names a section that gpp does not have
    GPP_UNREADABLE = "gpp_unreadable"
    GPP_SECTION_UNKNOWN = "gpp_section_unknown"  # a section applies that we have no rule for
    GPP_SERVICE_PROVIDER = "gpp_service_provider"  # MspaServiceProviderMode
    GPP_GPC = "gpp_gpc"  # the section's Gpc
    GPP_OPT_OUT = "gpp_opt_out"  # of sale, of sharing, or of targeted advertising
    GPP_NO_NOTICE = "gpp_no_notice"  # the person was not told that they could opt out
    GPP_CHILD = "gpp_child"  # KnownChildSensitiveDataConsents
    GPP_PERSONAL_DATA = "gpp_personal_data"  # PersonalDataConsents
    TOO_MANY_IDS = "too_many_ids"  # looking up only some could miss the one that opted out
    SIGNAL_UNREADABLE = "signal_unreadable"  # a privacy field of the wrong type
    # no_match
    ALREADY_THERE = "already_there"  # the request carries every segment that we would add
    UNPLACEABLE = "unplaceable"  # user.data is no array: nowhere to put a segment
    FAULT = "fault"  # a bug of ours; counted, and the request left as it came
    # store_down
    CATALOG_UNCONFIRMED = "catalog_unconfirmed"  # the store has not said lately that it is its own
    OPT_OUTS_STALE = "opt_outs_stale"  # no loader says that opt-outs still reach the store
    CORRUPT_RECORD = "corrupt_record"  # what the store holds of this id can't be read
    LEDGER_BEHIND = "ledger_behind"  # the ledger is an older copy of the one that the store knew
    # malformed
    NOT_JSON = "not_json"
    NOT_UTF8 = "not_utf8"
    NOT_A_BID_REQUEST = "not_a_bid_request"
    TOO_DEEP = "too_deep"
    UNSTRIPPABLE = (
        "unstrippable"  # input-only fields where we can't take them out: see openrtb.strip
    )
    BAD_ENCODING = "bad_encoding"  # Content-Encoding that does not unfold

    __hash__ = str.__hash__  # as above


class MalformedRequest(Exception):
    """The body is not a bid request: the sender must act, and is told so by a 400."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason
