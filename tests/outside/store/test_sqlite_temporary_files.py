"""
SQLite says "database or disk is full" of a full /tmp, where the ledger's own disk has room.

https://github.com/stashapp/stash/issues/5720
"""

import os
import subprocess
import sys
from pathlib import Path

from tests.small_disk import mounted

_SPILLS = """
import asyncio, sys
from sqlalchemy import text
from segments.ledger.database.sqlite import make_engine

async def main():
    ledger = make_engine(sys.argv[1])
    async with ledger.connect() as conn:
        print(await conn.scalar(text(
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < 100000)"
            " select count(*) from (select hex(randomblob(100)) h from n order by h limit 99000)"
        )))
    await ledger.dispose()

asyncio.run(main())
"""


def test_query_that_spills_needs_no_room_but_on_the_ledgers_own_disk(tmp_path: Path) -> None:
    with mounted(tmp_path / "tmp", size_bytes=64 << 10) as temporary:
        environment = {**os.environ, "TMPDIR": str(temporary.path)}
        environment.pop("SQLITE_TMPDIR", None)
        done = subprocess.run(
            [sys.executable, "-c", _SPILLS, f"sqlite+aiosqlite:///{tmp_path}/ledger.db"],
            check=False, env=environment, capture_output=True, text=True,
        )  # fmt: skip

    assert done.stdout.strip() == "99000", done.stderr[-500:]
