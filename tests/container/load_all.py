"""
A program for the image: loads all modules of ours, makes a ledger, reads Parquet files.

    python load_all.py FOLDER [FILE.parquet...]

It prints as JSON how many modules of ours there are, the packages that some lack, and the rows of
the files.
"""

import asyncio
import importlib
import json
import pkgutil
import sys
from pathlib import Path

import rtb
import segments
from segments.ingest.external_audience.parquet_rows import parquet_rows
from segments.ledger.database import postgres
from segments.ledger.database.engine import open_ledger

_RUN_BY_ALEMBIC = "segments.ledger.migrations.env"


async def _make_ledger(folder: Path) -> None:
    async with open_ledger(f"sqlite+aiosqlite:///{folder}/tried.db"):
        pass


def _main(folder: Path, *tables: str) -> None:
    names = [
        module.name
        for package in (rtb, segments)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if not module.name.endswith("__main__") and module.name != _RUN_BY_ALEMBIC
    ]
    lacking = set()
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as missing:
            lacking.add((missing.name or "").partition(".")[0])
    asyncio.run(_make_ledger(folder))
    postgres.make_engine("postgresql://nobody@127.0.0.1/nothing")
    rows = []
    for table in tables:
        with open(table, "rb", buffering=0) as raw:  # noqa: PTH123 - as the loader opens it
            rows += [
                [str(value) for value in row]
                for piece in parquet_rows(
                    raw, Path(table).stat().st_size, lambda it: range(len(it))
                )
                for row in zip(*piece, strict=True)
            ]
    sys.stdout.write(json.dumps({"modules": len(names), "lacking": sorted(lacking), "rows": rows}))


if __name__ == "__main__":
    _main(Path(sys.argv[1]), *sys.argv[2:])
