"""
Values in JSON requests: the accepted forms, and the sentences that refuse others.

A whole number is 40, 40.0 (as pandas writes it) or "40" (as in a vendor's own example). A boolean
is no number, unlike in Python and pydantic's lax mode.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

_MAX_DIGITS = 20


def _whole(value: Any) -> Any:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS:
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


WholeNumber = Annotated[int, BeforeValidator(_whole)]


@dataclass(frozen=True)
class WrittenAs:
    """A text of a pattern, with a sentence for texts that do not match."""

    pattern: str
    """From `^` to `$`; also in the JSON schema."""

    sentence: str
    """Without its subject: "is not ..."."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Check after the text's other constraints; part of pydantic."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Describe the text; part of pydantic."""
        return {**handler(schema), "pattern": self.pattern}

    def _check(self, text: str) -> str:
        if re.fullmatch(self.pattern, text) is None:
            raise PydanticCustomError("written", "{sentence}", {"sentence": self.sentence})
        return text
