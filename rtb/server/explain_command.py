"""
`python -m rtb explain`: explains a bid by the configured store, without a listener.

    explain REQUEST.json --recipient dsp-b     in words; `-` reads the request from stdin
    explain --wire                             a question as JSON on stdin, its answer on stdout:
                                               as `POST /explain` takes and gives them
"""

import argparse
import asyncio
import sys
from pathlib import Path

import msgspec
from redis.exceptions import RedisError

from rtb.explain.explainer import Contradiction
from rtb.server.explaining import Explaining, UnknownRecipient
from rtb.settings import RtbSettings
from segments.model.explained_bid import AnswerForm, Asked, Explanation, in_words
from segments.runtime.log_lines import log_to_stderr
from segments.runtime.settings_reader import read_settings
from segments.store.error_code import in_words as error_in_words
from segments.store.reader import StoreUnusable
from segments.store.servers.connection import connect


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("file", nargs="?", help="the bid request; - is stdin")
    parser.add_argument("--recipient", help="its name; default: the trusted caller")
    parser.add_argument("--at", type=float, metavar="UNIX_S", help="time of the bid; default: now")
    parser.add_argument("--form", type=AnswerForm, default=AnswerForm.WHOLE, choices=AnswerForm)
    parser.add_argument("--wire", action="store_true", help="a question as JSON on stdin")


def run(arguments: argparse.Namespace) -> None:
    """Explain a bid, and print the explanation; exits with 1 and a line on failure."""
    try:
        if arguments.wire:
            asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Asked)
        else:
            asked = Asked(_text(arguments), arguments.recipient, arguments.at, arguments.form)
    except (OSError, UnicodeDecodeError) as error:
        sys.exit(f"rtb: the request can't be read ({type(error).__name__})")
    except msgspec.DecodeError:
        sys.exit("rtb: stdin is not a question in the form of POST /explain")
    settings = read_settings(RtbSettings)
    log_to_stderr(settings.log_level, settings.log_format, "explain")
    try:
        explanation = asyncio.run(_explained(settings, asked))
    except (UnknownRecipient, StoreUnusable) as why:
        sys.exit(f"rtb: {why}")
    except (RedisError, OSError) as error:
        sys.exit(f"rtb: the store can't be read: {error_in_words(error)}")
    except Contradiction as bug:
        sys.exit(f"rtb: a fault of ours: the explanation contradicts the bid path at {bug}")
    if arguments.wire:
        sys.stdout.buffer.write(msgspec.json.encode(explanation) + b"\n")
    else:
        sys.stdout.write(in_words(explanation))


def _text(arguments: argparse.Namespace) -> str:
    if arguments.file is None:
        sys.exit("rtb: explain needs the FILE of a bid request; - is stdin")
    if arguments.file == "-":
        return sys.stdin.buffer.read().decode()
    return Path(arguments.file).read_bytes().decode()


async def _explained(settings: RtbSettings, asked: Asked) -> Explanation:
    async with connect(settings.store_url) as redis:
        return await Explaining(settings, redis)(asked)
