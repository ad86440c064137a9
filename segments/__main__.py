"""`python -m segments COMMAND` is `rtb-segments COMMAND`."""

from segments.cli import main

if __name__ == "__main__":
    main(prog_name="rtb-segments")
