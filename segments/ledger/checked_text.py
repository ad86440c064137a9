"""Validation of ids and names of accounts and audiences."""

from segments.model.refusal import Refusal


class UnusableText(Refusal):
    """A text can't be an id or a name; `what` is the checked one."""

    def __init__(self, what: str, fault: str) -> None:
        super().__init__(f"{what} {fault}")
        self.what = what


def checked_text(what: str, text: str, *, max_chars: int) -> str:
    """
    Return a text that can be stored, printed and sent unchanged.

    Raises:
        UnusableText: The text is empty or too long, has blanks around it, or invisible
            characters, which make two ids look the same.
    """
    if not 0 < len(text) <= max_chars:
        raise UnusableText(what, f"of {len(text)} characters, not 1 to {max_chars}")
    if text != text.strip() or not text.isprintable():
        raise UnusableText(what, "with blanks around it or characters that can't be printed")
    return text
