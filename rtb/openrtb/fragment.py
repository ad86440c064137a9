"""
The OpenX answer: a bid request of nothing but `id` and the `user.data` that is new.

OpenX merges it into its own request, and takes `id` and `user` on top and
`data` and `ext` in `user`, no more (docs/field.md, "Hosts and peers").
"""

from rtb.openrtb.additions import Additions
from rtb.openrtb.splice import appended


def fragment(additions: Additions) -> bytes:
    """Return the fragment; its `id` is the request's, byte for byte."""
    data = appended(b"", [addition.data for addition in additions.each])
    return b'{"id":%b,"user":{"data":%b}}' % (additions.request.id_raw, data)
