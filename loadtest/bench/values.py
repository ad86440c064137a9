"""
JSON by value: compares answers that may be spelled differently.

Numbers are floats; keys have no order, nor do the entries of `data` and `segment`.
"""

import json


def values(body: bytes) -> object:
    """
    Parse JSON by value.

    Raises:
        ValueError: Not JSON.
    """
    return json.loads(body, parse_int=float, object_hook=_unordered)


def _unordered(fields: dict[str, object]) -> dict[str, object]:
    for name in ("data", "segment"):
        value = fields.get(name)
        if isinstance(value, list):
            fields[name] = sorted(value, key=lambda one: json.dumps(one, sort_keys=True))
    return fields
