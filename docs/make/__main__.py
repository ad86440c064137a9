"""
Write what is made from the code, pages and pictures of `docs/` above all: `make docs`.

    docs/settings.md     from the fields and docstrings of the settings classes
    docs/commands.md     from the help of the commands, and of the Makefile's targets
    docs/pictures/*.svg  from the descriptions beside them
    segments/runtime/setting_names.py  the names of all settings
    Dockerfile           its labels, from docs/make/manifest.py
    deploy/redis.acl     and other least rights at the store, from the commands that we send

With `--check` nothing is written, and the exit status is 1 if anything would be.
"""

import sys
from pathlib import Path

from docs.make.commands_page import commands_page
from docs.make.manifest import dockerfile
from docs.make.pictures import pictures
from docs.make.redis_acl import acl_files
from docs.make.settings_page import setting_names, settings_page

ROOT = Path(__file__).parents[2]


def pages() -> dict[Path, str]:
    """Return each generated file, as it has to be."""
    return {
        ROOT / "docs/settings.md": settings_page(),
        ROOT / "segments/runtime/setting_names.py": setting_names(),
        ROOT / "docs/commands.md": commands_page(ROOT / "Makefile"),
        ROOT / "Dockerfile": dockerfile(ROOT),
        **acl_files(ROOT),
        **pictures(ROOT / "docs/pictures"),
    }


def outdated() -> list[Path]:
    """Return the files that are not as they have to be."""
    return [
        path
        for path, text in pages().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


def main(arguments: list[str]) -> int:
    """Write, or with `--check` only compare; returns the exit status."""
    stale = outdated()
    names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
    if arguments == ["--check"]:
        if stale:
            print(f"not as the code has it; `make docs` writes it: {names}")
        return 1 if stale else 0
    for path in stale:
        path.write_text(pages()[path], encoding="utf-8")
    if stale:
        print(f"written: {names}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
