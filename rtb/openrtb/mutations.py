"""
The ARTF answer: an `RTBResponse` with the new segments, as mutations.

    RTBResponse  1 id  2 mutations  3 metadata{1 api_version, 2 model_version}
    Mutation     1 intent = 1, ACTIVATE_SEGMENTS  2 op = 1, OPERATION_ADD  3 path  100 ids{1 id}

(agenticrtbframework.proto, IABTechLab/agentic-real-time-framework.) Encoded by hand, in five joins,
to the official runtime's bytes. A mutation names no provider, and two partners may have a segment
123, so an id may have its partner as a prefix.
"""

from typing import Final, NamedTuple

from rtb.openrtb.additions import Additions

_ID: Final = b"\x0a"
_MUTATION: Final = b"\x12"
_METADATA: Final = b"\x1a"
_MODEL_VERSION: Final = b"\x12"
_IDS: Final = b"\xa2\x06"  # field 100, length-delimited

_ACTIVATE: Final = b"\x08\x01\x10\x01\x1a\x12/user/data/segment" + _IDS
_API_VERSION: Final = b"\x0a\x031.0"


class MutationForm(NamedTuple):
    """
    A host's form of segments.

    Attributes:
        names_partner: Each id is `partner:segment`, by the partner's `Data.id`.
        one_each: A mutation for each id; otherwise one for all.
    """

    names_partner: bool
    one_each: bool


def rtb_response(
    id_: str | None, additions: Additions | None, form: MutationForm, metadata: bytes
) -> bytes:
    """
    Return an `RTBResponse`.

    Args:
        id_: The request's, if any.
        additions: `None`: no mutations.
        form: The host's form.
        metadata: From `metadata_of`.
    """
    head = b"" if id_ is None else _field(_ID, id_.encode())
    if additions is None:
        return head + metadata
    ids = _ids(additions, names_partner=form.names_partner)
    payloads = ids if form.one_each else [b"".join(ids)]
    mutations = [_field(_MUTATION, _ACTIVATE + _size(each) + each) for each in payloads]
    return b"".join((head, *mutations, metadata))


def metadata_of(catalog_version: int) -> bytes:
    """Return the `metadata`; the model version is the catalog's, 0: none yet."""
    model = b"%d" % catalog_version if catalog_version else b""
    return _field(_METADATA, _API_VERSION + (_field(_MODEL_VERSION, model) if model else b""))


def _ids(additions: Additions, *, names_partner: bool) -> list[bytes]:
    fields: list[bytes] = []
    for addition in additions.each:
        data_id = addition.offer.data_id
        known = _known_of(data_id if names_partner else "")
        for segment_id in addition.segment_id_to_json:
            field = known.get(segment_id)
            if field is None:
                text = f"{data_id}:{segment_id}" if names_partner else segment_id
                known[segment_id] = field = _field(_ID, text.encode())
            fields.append(field)
    # Partners may share a text.
    return fields if len(additions.each) == 1 else list(dict.fromkeys(fields))


def _known_of(prefix: str) -> dict[str, bytes]:
    """Fields written before, by segment id: ids recur."""
    known = _KNOWN.get(prefix)
    if known is None or len(known) >= _MAX_KNOWN:
        if len(_KNOWN) >= _MAX_PREFIXES:
            _KNOWN.clear()
        known = {}
        _KNOWN[prefix] = known
    return known


_MAX_KNOWN: Final = 4096
_MAX_PREFIXES: Final = 64
_KNOWN: Final[dict[str, dict[str, bytes]]] = {}


def _field(tag: bytes, value: bytes) -> bytes:
    return tag + _size(value) + value


def _size(value: bytes) -> bytes:
    """Return the length of a field, as a varint."""
    size = len(value)
    if size < _ONE_BYTE:
        return _SIZES[size]
    out = bytearray()
    while size >= _ONE_BYTE:
        out.append(size & 127 | 128)
        size >>= 7
    out.append(size)
    return bytes(out)


_ONE_BYTE: Final = 128
_SIZES: Final = [bytes((size,)) for size in range(_ONE_BYTE)]
