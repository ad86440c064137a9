"""A bug for every process that finds this on its PYTHONPATH: no catalog can be read."""

from segments.store import reader


async def _broken(_: object) -> None:
    raise ArithmeticError


reader.read_catalog = _broken  # type: ignore[assignment]
