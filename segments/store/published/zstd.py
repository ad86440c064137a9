"""zstd from Python 3.14's standard library, or its backport for older versions."""

import sys
from typing import Final

if sys.version_info >= (3, 14):
    from compression.zstd import (
        CompressionParameter,
        ZstdCompressor,
        ZstdDecompressor,
        ZstdError,
    )
else:
    from backports.zstd import (
        CompressionParameter,
        ZstdCompressor,
        ZstdDecompressor,
        ZstdError,
    )

__all__ = ("ZstdDecompressor", "ZstdError", "compressor")

_LEVEL: Final = 3


def compressor() -> ZstdCompressor:
    """Return a compressor of level 3, with zstd's own checksum of the content."""
    return ZstdCompressor(
        options={
            CompressionParameter.compression_level: _LEVEL,
            CompressionParameter.checksum_flag: 1,
        }
    )
