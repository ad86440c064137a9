"""The code of an error that the store replies with."""


def error_code(error: object) -> str:
    """
    Return the first word of an error: `NOPERM`, `LOADING`, `MOVED`.

    It is the code; the rest may quote what was sent, ids and all.
    """
    return str(error).partition(" ")[0]
