"""What kind of error the store replies with, without what the error may quote."""

from redis.exceptions import RedisError, ResponseError


def error_code(error: object) -> str:
    """
    Return the first word of an error: `NOPERM`, `LOADING`, `MOVED`.

    It is the code; the rest may quote what was sent, ids and all.
    """
    return str(error).partition(" ")[0]


def kind_of(error: ResponseError) -> str:
    """Return the code of an error reply, or the name of redis-py's class, which leaves it out."""
    return error_code(error) if type(error) is ResponseError else type(error).__name__


def in_words(error: RedisError) -> str:
    """Say in words of ours what is wrong with the store: it refuses, or can't be reached."""
    if isinstance(error, ResponseError):
        return f"the store refuses: {kind_of(error)}"
    return "the store can't be reached"
