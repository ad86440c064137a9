"""
The uids of a bid request's user, as a flat list.

`eids` are two arrays deep, in either of two places. The flat list is the same for each place, and
for both readers: msgspec by the views, or `rtb.openrtb.scan`.
"""

from typing import Any

from rtb.openrtb.views import Eid, Uid, UidExt, User, UserExt

SourcedUid = tuple[str, str, UidExt | None]
"""`EID.source`, `UID.id` and `UID.ext` (3.2.27, 3.2.28), `None` if it says nothing that we read."""


def uids_of(user: User, user_ext: UserExt) -> list[SourcedUid]:
    """
    Return a user's uids, in order, without the odd.

    Args:
        user: Uids' place in OpenRTB 2.6.
        user_ext: Their place in 2.5. Senders fill both, perhaps differently, and an opt-out may
            belong to either.
    """
    uids: list[SourcedUid] = []
    for eids in (user.eids, user_ext.eids):
        if not isinstance(eids, list):
            continue
        for eid in eids:
            if not isinstance(eid, Eid):
                continue
            source, of_source = eid.source, eid.uids
            if not isinstance(source, str) or not isinstance(of_source, list):
                continue
            uids += [
                (source, uid.id, _said_ext(uid.ext))
                for uid in of_source
                if isinstance(uid, Uid) and isinstance(uid.id, str)
            ]
    return uids


def _said_ext(ext: Any) -> UidExt | None:
    """Return a uid's `ext` if it has a member that we read."""
    if isinstance(ext, UidExt) and (ext.stype is not None or ext.provider is not None):
        return ext
    return None
