"""`python -m segments COMMAND` is `rtb-segments COMMAND`."""

from segments import cli


def main() -> None:
    """Run the command that the arguments name."""
    cli.main(prog_name="rtb-segments")


if __name__ == "__main__":
    main()
