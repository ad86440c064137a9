"""What pydantic found wrong, by place and rule, and never by what stands there."""

from pydantic import ValidationError
from pydantic_core import ErrorDetails


def validation_faults(error: ValidationError) -> list[ErrorDetails]:
    """Return the faults of something that was sent to us; without the input and what quotes it."""
    return error.errors(include_url=False, include_context=False, include_input=False)
