"""
Fuzz one target for as long as wanted, see a fault again, add to the corpus.

    python -m tests.fuzz                                  which targets there are
    python -m tests.fuzz tc --inputs 1000000 --seed 7     more inputs, by other chances
    python -m tests.fuzz tc --inputs 200000 --keep        ... and keep what led somewhere new
    python -m tests.fuzz tc --replay BASE64               one input, as a fault's message has it
"""

import argparse
import base64
import sys

from tests.fuzz.corpus import add_to_corpus
from tests.fuzz.drive import Fault, fuzz, replay
from tests.fuzz.targets import TARGETS


def main() -> int:
    """Do as the arguments say; 1 is a fault."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("target", nargs="?", choices=TARGETS, metavar="TARGET")
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="add to tests/fuzz/corpus")
    parser.add_argument("--replay", metavar="BASE64")
    asked = parser.parse_args()
    if asked.target is None:
        print("\n".join(TARGETS))  # noqa: T201 - a command prints
        return 0
    target = TARGETS[asked.target]
    if asked.replay is not None:
        print(replay(target, base64.b64decode(asked.replay)))  # noqa: T201
        return 0
    try:
        report = fuzz(target, asked.inputs, seed=asked.seed, is_guided=True)
    except Fault as fault:
        print(fault, file=sys.stderr)  # noqa: T201
        return 1
    print(f"{target.name}: {report}")  # noqa: T201
    if asked.keep:
        print(f"{add_to_corpus(target, report.news)} inputs in the corpus")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
