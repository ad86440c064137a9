"""
Debian packages: named before they are installed, all at once, and left alone where that is asked.

The script runs for real, over a table of the test's and an `apt-get` that notes its arguments and
installs by making a file.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_TABLE = """\
# group | package | must or may | check | purpose
test  | tree  | must | test -e installed-tree  | draws trees
test  | kite  | must | test -e installed-kite  | flies
peers | crane | may  | test -e installed-crane | lifts
"""
_APT_GET = """\
#!/bin/sh
echo "$*" >> apt-get.log
for word; do case "$word" in
    install|update|-*) ;;
    unknown) exit 100 ;;
    *) touch "installed-$word" ;;
esac; done
"""


@dataclass
class Machine:
    """A checkout of nothing but the script, on a machine of its own."""

    folder: Path
    user: int = 0
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.folder / ".ci").mkdir()
        shutil.copy(_ROOT / ".ci/debian", self.folder / ".ci")
        self.table = self.folder / ".ci/debian-packages"
        self.table.write_text(_TABLE)
        self.commands = self.folder / "bin"
        self.commands.mkdir()
        self.command("apt-get", _APT_GET)
        self.command("id", f"#!/bin/sh\necho {self.user}\n")

    def command(self, name: str, script: str) -> None:
        path = self.commands / name
        path.write_text(script)
        path.chmod(0o755)

    def ask(self, *groups: str) -> tuple[int, str]:
        """Run the script; returns its exit status and everything that it printed."""
        needed = ("sh", "grep", "sed", "cut", "tr", "cat", "touch", "dirname", "sudo")
        for name in needed:
            if (found := shutil.which(name)) and not (self.commands / name).exists():
                (self.commands / name).symlink_to(found)
        done = subprocess.run(
            ["/bin/sh", ".ci/debian", *groups],
            cwd=self.folder,
            env={"PATH": str(self.commands), **self.environment},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        return done.returncode, done.stdout

    @property
    def asked_of_apt(self) -> str:
        log = self.folder / "apt-get.log"
        return log.read_text() if log.exists() else ""

    def make_environment(self) -> None:
        """What `make venv` leaves behind."""
        for name in ("requirements.lock", "pyproject.toml", ".venv/installed"):
            path = self.folder / name
            path.parent.mkdir(exist_ok=True)
            path.touch()
        os.utime(self.folder / ".venv/installed", (2e9, 2e9))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_packages_are_named_with_the_rights_before_they_are_installed(machine: Machine) -> None:
    machine.command("apt-get", _APT_GET.replace('echo "$*"', 'echo "apt-get: $*"; echo "$*"'))

    status, said = machine.ask("test", "peers")

    assert status == 0
    before = said.partition("apt-get: ")[0]
    assert [word in before for word in ("tree", "kite", "crane", "root")] == [True] * 4
    assert "tree kite crane" in machine.asked_of_apt


def test_nothing_is_said_or_done_where_nothing_is_missing(machine: Machine) -> None:
    machine.ask("test", "peers")
    (machine.folder / "apt-get.log").unlink()

    assert machine.ask("test", "peers") == (0, "")
    assert machine.asked_of_apt == ""


def test_other_groups_are_left_alone(machine: Machine) -> None:
    machine.ask("peers")

    assert "tree" not in machine.asked_of_apt


def test_without_deps_everything_missing_is_named_at_once_and_nothing_installed(
    machine: Machine,
) -> None:
    machine.environment["DEPS"] = "no"

    status, said = machine.ask("test", "peers")

    assert status == 1
    assert [word in said for word in ("tree", "kite", "crane", ".venv")] == [True] * 4
    assert machine.asked_of_apt == ""


def test_without_deps_what_can_be_done_without_stops_nobody(machine: Machine) -> None:
    machine.environment["DEPS"] = "no"
    machine.make_environment()

    status, said = machine.ask("peers")

    assert (status, "crane" in said) == (2, True)


def test_python_packages_older_than_their_lock_are_missing(machine: Machine) -> None:
    machine.environment["DEPS"] = "no"
    machine.make_environment()
    os.utime(machine.folder / "requirements.lock", (2.1e9, 2.1e9))

    status, said = machine.ask("none")

    assert (status, ".venv" in said) == (1, True)


def test_without_root_or_sudo_the_command_to_run_is_told(tmp_path: Path) -> None:
    machine = Machine(tmp_path, user=1000)
    machine.command("sudo", "")
    (machine.commands / "sudo").chmod(0o644)

    status, said = machine.ask("test")

    assert status == 1
    assert "apt-get install --no-install-recommends tree kite" in said
    assert machine.asked_of_apt == ""


def test_package_that_is_not_to_be_had_keeps_no_other_away(machine: Machine) -> None:
    machine.table.write_text(_TABLE + "peers | unknown | may | false | is not in this release\n")

    status, said = machine.ask("test", "peers")

    assert (status, "unknown" in said.rpartition("still missing")[2]) == (2, True)
    assert (machine.folder / "installed-tree").exists()


def test_each_package_of_ours_has_a_check_and_a_purpose() -> None:
    rows = [
        [cell.strip() for cell in line.split("|")]
        for line in (_ROOT / ".ci/debian-packages").read_text().splitlines()
        if not line.startswith("#")
    ]

    assert [row for row in rows if len(row) < 5 or row[2] not in ("must", "may")] == []
