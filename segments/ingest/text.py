r"""
Decodes a text file of any spreadsheet or old system to UTF-8 with `\n`.

A spreadsheet's "Unicode text" is UTF-16, and lines of an old Mac or a mainframe export end with CR
alone. The first block decides for the whole file. All readers of text in this package read from
here.

    ff fe, fe ff         UTF-16 with its mark
    every other byte 0   UTF-16 without a mark, even if only most are 0; UTF-8 text has no zero
                         bytes
    sep=;                Excel's hint for the delimiter: becomes an empty line
    more CR alone        CR is the line end
    than LF

A single CR in a file of LF lines stays: the reader decides whether its line is bad.
"""

import codecs
import re
from collections.abc import Iterator
from itertools import chain

BYTE_ORDER_MARK = codecs.BOM_UTF8
_UTF_16_MARKS = ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_LOOKED_AT_BYTES = 512
_FEW = 8
_DELIMITER_HINT = re.compile(rb'\A"?(?i:sep)=.?"?(\r\n|\r|\n)')


def text_blocks(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """
    Yield a file's text as UTF-8 without a byte order mark, its lines ended by LF or CR LF.

    No block is empty. A byte pair that is no UTF-16 becomes U+FFFD, so its line is bad and not
    lost.
    """
    first = b""
    while len(first) < _LOOKED_AT_BYTES and (block := next(blocks, b"")):
        first += block
    encoding = _utf_16(first)
    if encoding is not None:
        utf8 = _decoded(chain([first], blocks), encoding)
        first, blocks = next(utf8, b""), utf8
    first = _DELIMITER_HINT.sub(rb"\1", first.removeprefix(BYTE_ORDER_MARK), count=1)
    blocks = chain([first], blocks)
    return _with_line_feeds(blocks) if _ends_lines_with_cr(first) else blocks


def _utf_16(first: bytes) -> str | None:
    for mark, encoding in _UTF_16_MARKS:
        if first.startswith(mark):
            return encoding
    looked_at = first[:_LOOKED_AT_BYTES]
    # Zero is the higher byte of each pair, but for a few characters of a file of hashes.
    zeros_first, zeros_second = looked_at[0::2].count(0), looked_at[1::2].count(0)
    if max(zeros_first, zeros_second) * 4 < len(looked_at) or len(looked_at) < 2:
        return None
    if zeros_first * _FEW < zeros_second:
        return "utf-16-le"
    return "utf-16-be" if zeros_second * _FEW < zeros_first else None


def _decoded(blocks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    is_first = True
    for block in blocks:
        text = decoder.decode(block)
        yield (text.removeprefix("\ufeff") if is_first else text).encode()
        is_first = False
    yield decoder.decode(b"", final=True).encode()


def _ends_lines_with_cr(first: bytes) -> bool:
    alone = first.count(b"\r") - first.count(b"\r\n")
    return alone > first.count(b"\n")


def _with_line_feeds(blocks: Iterator[bytes]) -> Iterator[bytes]:
    is_behind_cr = False
    for block in blocks:
        whole = block[1:] if is_behind_cr and block.startswith(b"\n") else block
        is_behind_cr = block.endswith(b"\r")
        yield whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
