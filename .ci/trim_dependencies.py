"""
Removes from the image's packages what no process of ours opens, and debug symbols.

    python .ci/trim_dependencies.py FOLDER    # the packages' own folder, `site-packages`

Sources go, too, once they are compiled: Python starts from the compiled files, and a traceback has
the names and numbers of lines all the same. Our own sources stay. That nothing is missed:
tests/ci/test_trimmed.py, and tests/container.
"""

import compileall
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGES = (
    "cffi",  # its C part alone is used
    "pycparser",  # cffi's
    "markdown_it",  # by rich for Markdown
    "mdurl",
    "pygments",  # by rich and Mako for code in colours
)

FILES = (
    "*.pyi *.pyx *.pxd *.pxi *.h *.c *.a",  # for whoever compiles or checks types
    "alembic/templates alembic/testing",
    "asyncpg/_testbase",
    "greenlet/tests",
    "multidict/_testcapi.*",
    "numpy/_core/_simd.* numpy/_core/*_tests.*",
    "numpy/_pyinstaller numpy/conftest.* numpy/ctypeslib numpy/f2py numpy/fft numpy/polynomial",
    "numpy/random numpy/testing numpy/tests numpy/*/tests",
    "pyarrow/include pyarrow/src pyarrow/tests pyarrow/_pyarrow_cpp_tests.*",
    "pyarrow/*flight* pyarrow/*encryption*",
    "pyarrow/_acero.* pyarrow/_csv.* pyarrow/_dataset*.* pyarrow/_feather.* pyarrow/_json.*",
    "pyarrow/_orc.* pyarrow/_substrait.*",
    "pyarrow/libarrow_python.so pyarrow/libarrow_python.so.*.*",  # copies of libarrow_python.so.N
    "sqlalchemy/dialects/mssql sqlalchemy/dialects/mysql sqlalchemy/dialects/oracle",
    "sqlalchemy/testing",
)
"""Patterns of files and folders; one without a folder is of every folder."""


def removable(packages: Path) -> dict[str, list[Path]]:
    """Return what is not opened, by its package or pattern."""
    found = {name: list(packages.glob(name)) for name in PACKAGES}
    for pattern in " ".join(FILES).split():
        in_folder = "" if "/" in pattern else "**/"
        found[pattern] = list(packages.glob(in_folder + pattern))
    return found


def remove(packages: Path) -> None:
    """Remove what is not opened."""
    for paths in removable(packages).values():
        for path in paths:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)  # it may have gone with its folder


def strip(folder: Path) -> None:
    """Remove debug symbols from compiled modules and libraries."""
    libraries = [path for path in folder.rglob("*.so*") if path.is_file()]
    subprocess.run(["strip", "--strip-unneeded", *libraries], check=True)  # noqa: S607 - of binutils


def compile_all(packages: Path) -> None:
    """Compile each module, and remove its source."""
    for source in packages.rglob("*.py"):
        if compileall.compile_file(source, quiet=2, legacy=True):
            source.unlink()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    remove(folder)
    strip(folder)
    compile_all(folder)
