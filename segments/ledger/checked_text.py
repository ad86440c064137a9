"""Validation of ids and names of accounts and audiences."""

from segments.model.refusal import Refusal


def checked_text(what: str, text: str, *, max_chars: int) -> str:
    """
    Return a text that can be stored, printed and sent unchanged.

    Raises:
        Refusal: The text is empty or too long, has blanks around it, or invisible
            characters, which make two ids look the same.
    """
    if not 0 < len(text) <= max_chars:
        raise Refusal(f"{what} of {len(text)} characters, not 1 to {max_chars}")
    if text != text.strip() or not text.isprintable():
        raise Refusal(f"{what} with blanks around it or characters that can't be printed")
    return text
