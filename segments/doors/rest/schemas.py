"""What the forms of the REST doors have in common."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints
from pydantic_core import PydanticCustomError


class Form(BaseModel):
    """A body; what it says beyond what it must is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


def printable(text: str) -> str:
    """Return a text that a terminal shows as it stands; refuse another."""
    if not text.isprintable():
        raise PydanticCustomError("unprintable", "has characters that can't be printed")
    return text


PrintableText = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=256),
    AfterValidator(printable),
]
"""A name that can be stored, printed and sent as it stands."""


def _file_name(text: str) -> str:
    if "/" in text or "\\" in text or text in (".", ".."):
        raise PydanticCustomError("path", "is a path, not the name of a file")
    return text


FileName = Annotated[PrintableText, AfterValidator(_file_name)]
"""What a partner calls a file: data, and never a path of ours."""
