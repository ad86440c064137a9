"""
The ids that a bid request says its user has, as one flat list.

`eids` are two arrays deep, in either of two places; nearly all that is read of them are
pairs of source and id. Here they are pairs, so that who looks for identifiers need not
know where they stood, nor who has read them: msgspec by the views, or `rtb.openrtb.scan`.
"""

from rtb.openrtb.views import Eid, Uid, UidExt, User, UserExt

SourcedUid = tuple[str, str, UidExt | None]
"""`EID.source`, `UID.id` and `UID.ext` (3.2.27, 3.2.28); all else of them is not read."""


def uids_of(user: User, user_ext: UserExt) -> list[SourcedUid]:
    """
    Return the uids of a user, in their order; whatever else stands there is none.

    Args:
        user: Has them in OpenRTB 2.6.
        user_ext: Had them in 2.5. Senders write them to both, or different ones to each, and
            an opt-out may stand in either: both count.
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
                (source, uid.id, uid.ext if isinstance(uid.ext, UidExt) else None)
                for uid in of_source
                if isinstance(uid, Uid) and isinstance(uid.id, str)
            ]
    return uids
