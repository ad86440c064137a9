r"""
The bytes of a text file, however a spreadsheet or an old system wrote them, to UTF-8 with `\n`.

A partner's export is hashes, but its envelope is whatever the program writes that
the partner has: "Unicode text" of a spreadsheet is UTF-16, and a line of an old
Mac or of a mainframe export ends with CR alone. Read as UTF-8 lines, the first is
one bad line after another and the second one line as long as the file. Both are
told by the first block, once for the whole file, and every reader of text in this
package takes its blocks from here.

    ff fe, fe ff         UTF-16 with its mark
    every other byte 0   UTF-16 without, or most of them; no UTF-8 has a zero byte
    sep=;                Excel's word on the delimiter: an empty line in its place
    more CR alone        CR is the line end
    than LF

A single CR in a file of LF lines is left where it is: it is part of a line, and
whether that line is bad its reader says.
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

    Args:
        blocks: The plain bytes of the file, in order, none of them empty.

    A byte pair that is no UTF-16 becomes U+FFFD, so its line is bad and not lost.
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
    # Of each pair the zero is the higher byte, in all but a few characters that hashes have.
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
