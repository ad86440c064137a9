"""A client's path is the folder or one name in it, however it is spelled."""

import pytest
from asyncssh import SFTPNoSuchFile, SFTPPermissionDenied

from segments.doors.sftp.paths import check_new, is_folder, name_of


@pytest.mark.parametrize("path", [b"", b"/", b".", b"//", b"/.", b"/../..", b"a/.."])
def test_folder_is_the_folder_however_it_is_spelled(path: bytes) -> None:
    assert is_folder(path)
    with pytest.raises(SFTPPermissionDenied, match="folder"):
        name_of(path)


@pytest.mark.parametrize(
    "path", [b"people.txt", b"/people.txt", b"//people.txt", b"./people.txt", b"/../people.txt"]
)
def test_name_is_the_name_however_it_is_spelled(path: bytes) -> None:
    assert not is_folder(path)
    assert name_of(path) == "people.txt"


@pytest.mark.parametrize(
    ("path", "error"),
    [
        pytest.param(b"/in/people.txt", SFTPNoSuchFile, id="below a folder"),
        pytest.param(b"/../etc/passwd", SFTPNoSuchFile, id="elsewhere"),
        pytest.param(b"/\xff.txt", SFTPPermissionDenied, id="no UTF-8"),
        pytest.param(b"/.taken", SFTPPermissionDenied, id="a name that no file may have"),
    ],
)
def test_path_to_elsewhere_and_name_of_no_file_are_refused(
    path: bytes, error: type[Exception]
) -> None:
    with pytest.raises(error):
        name_of(path)


def test_answers_are_ours_to_write() -> None:
    check_new("people.txt")

    with pytest.raises(SFTPPermissionDenied, match="ours"):
        check_new("people.txt.status")
