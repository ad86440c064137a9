"""
The outcomes of a bid request: a closed list.

Metric label, `X-Enrich-Outcome` header and row of docs/bid-path.md share the word. Only `malformed`
asks for action, by the sender.
"""

from enum import StrEnum


class Outcome(StrEnum):
    """Unless enriched or malformed, a body leaves as received, but stripped."""

    ENRICHED = "enriched"  # segments were added to user.data
    NO_IDENTITY = "no_identity"  # no id to look up
    NO_CONSENT = "no_consent"  # the request's own signals forbid it
    OPTED_OUT = "opted_out"  # an opt-out of the person
    NO_MATCH = "no_match"  # an id, but no live segment for this recipient
    HELD_OUT = "held_out"  # the person is in the hold-out
    OUT_OF_TIME = "out_of_time"  # the deadline passed before the store answered
    STORE_DOWN = "store_down"  # the store is unreachable or can't be trusted
    SHED = "shed"  # too many requests in flight
    MALFORMED = "malformed"  # not a bid request: 400

    # Enum's own is a Python function.
    __hash__ = str.__hash__


class OutcomeHeader(StrEnum):
    """The detail of `X-Enrich-Outcome`."""

    FULL = "full"  # the outcome
    COARSE = "coarse"  # `enriched` or `passed`, which does not reveal opt-outs


class Reason(StrEnum):
    """The metric's second label; most outcomes need none."""

    NONE = ""
    # no_consent
    COPPA = "coppa"  # regs.coppa = 1
    LMT = "lmt"  # device.lmt = 1, or device.ext.atts other than 3
    DNT = "dnt"  # device.dnt = 1, where configured
    GPC = "gpc"  # regs.ext.gpc = "1"
    US_PRIVACY_OPT_OUT = "us_privacy_opt_out"  # third character Y
    US_PRIVACY_UNREADABLE = "us_privacy_unreadable"
    TCF_MISSING = "tcf_missing"  # GDPR applies and there is no TC string
    TCF_UNREADABLE = "tcf_unreadable"
    TCF_NO_PURPOSE = "tcf_no_purpose"  # no consent for a purpose that we need
    TCF_NO_VENDOR = "tcf_no_vendor"  # no consent for us
    TCF_NOT_DISCLOSED = "tcf_not_disclosed"  # the string does not disclose us to the person
    TCF_RESTRICTED = "tcf_restricted"  # the publisher forbids a purpose that we need
    GPP_MISSING = "gpp_missing"  # gpp lacks a section that gpp_sid names
    GPP_UNREADABLE = "gpp_unreadable"
    GPP_SECTION_UNKNOWN = "gpp_section_unknown"  # a section without a rule here applies
    GPP_SERVICE_PROVIDER = "gpp_service_provider"  # MspaServiceProviderMode
    GPP_GPC = "gpp_gpc"  # the section's Gpc
    GPP_OPT_OUT = "gpp_opt_out"  # of sale, of sharing, or of targeted advertising
    GPP_NO_NOTICE = "gpp_no_notice"  # the person was not told about the right to opt out
    GPP_CHILD = "gpp_child"  # KnownChildSensitiveDataConsents
    GPP_PERSONAL_DATA = "gpp_personal_data"  # PersonalDataConsents
    TOO_MANY_IDS = "too_many_ids"  # a partial lookup could miss an opt-out
    SIGNAL_UNREADABLE = "signal_unreadable"  # a privacy field of the wrong type
    # no_match
    ALREADY_THERE = "already_there"  # the request has all our segments
    UNPLACEABLE = "unplaceable"  # user.data is not an array: no place for a segment
    NOT_WANTED = "not_wanted"  # the host takes no segments in this stage of the auction (ARTF)
    FAULT = "fault"  # a bug of ours; counted, and the request left as received
    # store_down
    CATALOG_UNCONFIRMED = "catalog_unconfirmed"  # the store has not confirmed the catalog lately
    OPT_OUTS_STALE = "opt_outs_stale"  # no loader confirms that opt-outs still reach the store
    CORRUPT_RECORD = "corrupt_record"  # the store's record of an id is unreadable
    NOPERM = "noperm"  # the store's ACL forbids our commands
    NOAUTH = "noauth"  # the store wants a password
    WRONGPASS = "wrongpass"  # our password is wrong
    LOADING = "loading"  # the store is still reading its data from disk, or busy
    MASTERDOWN = "masterdown"  # a replica without its master
    CLUSTERDOWN = "clusterdown"  # a slot of the Cluster has no master
    REFUSED = "refused"  # another error of the store
    LEDGER_BEHIND = "ledger_behind"  # the ledger is an older copy than the store has seen
    # malformed
    NOT_JSON = "not_json"
    NOT_PROTOBUF = "not_protobuf"
    NOT_UTF8 = "not_utf8"
    NOT_A_BID_REQUEST = "not_a_bid_request"
    TOO_DEEP = "too_deep"
    UNSTRIPPABLE = (
        "unstrippable"  # input-only fields where they can't be removed: see rtb.openrtb.strip
    )
    BAD_ENCODING = "bad_encoding"  # the body does not match its Content-Encoding

    __hash__ = str.__hash__  # as above


class MalformedRequest(Exception):
    """The body is not a bid request: 400."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason
