"""Base classes and types for the schemas of all REST doors."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints
from pydantic_core import PydanticCustomError


class Form(BaseModel):
    """A body; unknown members are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


def printable(text: str) -> str:
    """Return a text that a terminal shows unchanged; refuse any other."""
    if not text.isprintable():
        raise PydanticCustomError("unprintable", "has characters that can't be printed")
    return text


PrintableText = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=256),
    AfterValidator(printable),
]
"""A name that is safe to store, print and send unchanged."""


def _file_name(text: str) -> str:
    if "/" in text or "\\" in text or text in (".", ".."):
        raise PydanticCustomError("path", "is a path, not the name of a file")
    return text


FileName = Annotated[PrintableText, AfterValidator(_file_name)]
"""A partner's file name: data, and never a path of ours."""
