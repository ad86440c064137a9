"""
Describes a bug by its type and place, never by its message.

A message may quote a request, a line of a file, or a statement's values: a person's id, an address,
a password.
"""

import traceback

_OURS = ("rtb.", "segments.")


def bug_place(error: BaseException) -> str:
    """
    Return an exception's type and place, such as `KeyError at segments.ingest.run:plan:120`.

    The place is our innermost frame, because a library may raise on our behalf; without one, the
    innermost of all.
    """
    place, is_ours = "?", False
    for frame, line in traceback.walk_tb(error.__traceback__):
        module = str(frame.f_globals.get("__name__", "?"))
        if module.startswith(_OURS) or not is_ours:
            place = f"{module}:{frame.f_code.co_name}:{line}"
            is_ours = module.startswith(_OURS)
    return f"{type(error).__name__} at {place}"
