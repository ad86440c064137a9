"""
Writes the catalog for bids: three hashes and their version, atomically.
"""

from collections.abc import Sequence

import msgspec
from redis.asyncio import Redis

from segments.model.catalog import AccountEntry, AudienceEntry, CatalogSnapshot, RecipientEntry
from segments.store import keys


async def write_catalog(redis: Redis, shown: int, snapshot: CatalogSnapshot) -> bool:
    """Write the catalog atomically, unless the store shows another version by now."""
    tables: Sequence[Sequence[AudienceEntry | AccountEntry | RecipientEntry]] = (
        snapshot.audiences,
        snapshot.accounts,
        snapshot.recipients,
    )
    names = keys.VERSION, keys.AUDIENCES, keys.ACCOUNTS, keys.RECIPIENTS
    arguments: list[int | bytes] = [shown, snapshot.version]
    for entries in tables:
        arguments.append(len(entries))
        arguments += [item for entry in entries for item in _item(entry)]
    return bool(await redis.eval(_PUBLISH, len(names), *names, *arguments))


# Unlike WATCH and a transaction, works in a Cluster, too.
_PUBLISH = """
if (redis.call('GET', KEYS[1]) or '0') ~= ARGV[1] then
    return 0
end
redis.call('SET', KEYS[1], ARGV[2])
local at = 3
for table = 2, 4 do
    redis.call('DEL', KEYS[table])
    local last = at + 2 * tonumber(ARGV[at])
    at = at + 1
    while at <= last do
        redis.call('HSET', KEYS[table], unpack(ARGV, at, math.min(at + 999, last)))
        at = math.min(at + 999, last) + 1
    end
end
return 1
"""


def _item(entry: AudienceEntry | AccountEntry | RecipientEntry) -> tuple[int, bytes]:
    return entry.id, msgspec.json.encode(entry)
