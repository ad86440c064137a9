"""
What may be said of a bug: its type and where it is, and never its message.

The message of an exception may quote what was sent, a line of a file, a statement with its
values: a person's id, an address, a password. The type and the place quote nothing.
"""

import traceback

_OURS = ("rtb.", "segments.")


def bug_place(error: BaseException) -> str:
    """
    Return an exception's type and place, such as `KeyError at segments.ingest.run:plan:120`.

    The place is the last frame of our own code, for a library may raise on our behalf; where
    there is none, the last frame of all.
    """
    place, is_ours = "?", False
    for frame, line in traceback.walk_tb(error.__traceback__):
        module = str(frame.f_globals.get("__name__", "?"))
        if module.startswith(_OURS) or not is_ours:
            place = f"{module}:{frame.f_code.co_name}:{line}"
            is_ours = module.startswith(_OURS)
    return f"{type(error).__name__} at {place}"
