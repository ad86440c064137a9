"""What can be read of a customer's directory, and that nothing else can."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from segments.files.customer_directory import CustomerDirectory
from segments.files.customer_storage import (
    MAX_FILES,
    NotThere,
    SourceFile,
    StorageAway,
    TooManyFiles,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A customer's directory, beside which lies a secret."""
    root = tmp_path / "customer"
    (root / "in" / "deep").mkdir(parents=True)
    (root / "in" / "a.csv").write_text("a")
    (root / "in" / "deep" / "b.csv").write_text("bb")
    (tmp_path / "secret.csv").write_text("secret")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "c.csv").write_text("secret")
    return root


def test_files_of_a_folder_are_listed_and_read(root: Path) -> None:
    storage = CustomerDirectory(root)

    files = storage.folder("in")

    assert [(file.path, file.size_bytes) for file in files] == [
        ("in/a.csv", 1),
        ("in/deep/b.csv", 2),
    ]
    with storage.open(files[1]) as raw:
        assert raw.read() == b"bb"
    assert storage.file("in/a.csv") == files[0]
    assert storage.folder("none") == []


def link_file(root: Path) -> str:
    (root / "in" / "link.csv").symlink_to(root.parent / "secret.csv")
    return "in/link.csv"


def link_folder(root: Path) -> str:
    (root / "in" / "link").symlink_to(root.parent / "secrets")
    return "in/link/c.csv"


def fifo(root: Path) -> str:
    os.mkfifo(root / "in" / "pipe.csv")
    return "in/pipe.csv"


def folder(_: Path) -> str:
    return "in/deep"


@pytest.mark.parametrize("make", [link_file, link_folder, fifo, folder])
def test_no_link_is_followed_and_what_is_no_file_is_not_read(
    root: Path, make: Callable[[Path], str]
) -> None:
    path = make(root)
    storage = CustomerDirectory(root)

    with pytest.raises(NotThere):
        storage.file(path)
    with pytest.raises(NotThere):
        storage.open(SourceFile(path, "", 6, 0.0))
    assert [file.path for file in storage.folder("in")] == ["in/a.csv", "in/deep/b.csv"]


def test_file_that_becomes_a_link_behind_the_listing_is_not_read(root: Path) -> None:
    storage = CustomerDirectory(root)
    [listed, _] = storage.folder("in")

    (root / "in" / "a.csv").unlink()
    (root / "in" / "a.csv").symlink_to(root.parent / "secret.csv")

    with pytest.raises(NotThere):
        storage.open(listed)


def test_folder_that_becomes_a_link_behind_the_listing_is_not_entered(root: Path) -> None:
    storage = CustomerDirectory(root)
    [_, listed] = storage.folder("in")

    (root / "in" / "deep").rename(root / "deep")
    (root / "in" / "deep").symlink_to(root / "deep")

    with pytest.raises(NotThere):
        storage.open(listed)


def test_file_that_was_changed_is_not_the_one_that_was_listed(root: Path) -> None:
    storage = CustomerDirectory(root)
    listed = storage.file("in/a.csv")

    (root / "in" / "a.csv").write_text("other")

    with pytest.raises(NotThere):
        storage.open(listed)


def test_what_tools_leave_beside_the_data_is_left_out(root: Path) -> None:
    for name in ("_SUCCESS", ".a.csv.crc", "_temporary/x.csv", "bad\nname.csv"):
        path = root / "in" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")

    files = CustomerDirectory(root).folder("in")

    assert [file.path for file in files] == ["in/a.csv", "in/deep/b.csv"]


def test_folder_of_too_many_files_is_refused(root: Path) -> None:
    for number in range(MAX_FILES + 1):
        os.close(os.open(root / "in" / f"{number}.csv", os.O_CREAT))

    with pytest.raises(TooManyFiles):
        CustomerDirectory(root).folder("in")


def test_directory_that_is_gone_is_away_and_not_empty(tmp_path: Path) -> None:
    storage = CustomerDirectory(tmp_path / "gone")

    with pytest.raises(StorageAway):
        storage.folder("in")
    with pytest.raises(StorageAway):
        storage.file("in/a.csv")
