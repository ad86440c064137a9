import os
import platform
from pathlib import Path

from redis.asyncio import Redis


def machine() -> str:
    """Return processor, cores, kernel and Python in a line."""
    uname = os.uname()
    cores = os.cpu_count() or 1
    return (
        f"{_processor() or uname.machine}, {cores} core{'s' * (cores > 1)},"
        f" {uname.sysname} {uname.release}, Python {platform.python_version()}"
    )


async def store_version(redis: Redis) -> str:
    """Return the name and version of the store's server."""
    server = await redis.info("server")
    if "valkey_version" in server:
        return f"Valkey {server['valkey_version']}"
    return f"Redis {server['redis_version']}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else ""
