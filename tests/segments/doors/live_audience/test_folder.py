import os
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segments.doors.live_audience.file_names import MAX_NAME_BYTES, Refused, check_name, folder_name
from segments.doors.live_audience.folder import MAX_FILES, DropFolder, Folder, Upload

LONG_AGO_S = 3600.0


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return DropFolder(tmp_path / "drop").of("shop")


def put(folder: Folder, name: str, content: bytes = b"x") -> Path:
    """Write a file as somebody else's server does."""
    path = folder.path / name
    path.write_bytes(content)
    return path


def changed_at_s(folder: Folder, name: str) -> float:
    return folder.stat(name).st_ctime


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("", id="empty"),
        pytest.param(".unfinished", id="a folder of ours"),
        pytest.param(".taken", id="the other folder of ours"),
        pytest.param(".", id="the folder"),
        pytest.param("..", id="the folder above"),
        pytest.param("a/b", id="slash"),
        pytest.param("a\\b", id="backslash"),
        pytest.param("a\nb", id="line end"),
        pytest.param("a\x1b[31m", id="terminal escape"),
        pytest.param("a\x00b", id="nul"),
        pytest.param("a\u202eb", id="right-to-left override"),
        pytest.param("x" * (MAX_NAME_BYTES + 1), id="too long"),
        pytest.param("é" * (MAX_NAME_BYTES // 2 + 1), id="too long in bytes"),
        pytest.param("x" * 249 + ".json", id="no room for its answer"),
    ],
)
def test_names_that_are_no_file_names_are_refused(name: str) -> None:
    with pytest.raises(Refused):
        check_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "a.txt",
        "Umläute und Leerzeichen.csv",
        "x" * MAX_NAME_BYTES,
        "x" * 248 + ".json",
        ".a.txt.part",
    ],
)
def test_ordinary_names_are_allowed(name: str) -> None:
    assert check_name(name) == name


@given(st.text(min_size=1, max_size=128).filter(lambda text: text.isprintable()))
def test_folder_name_is_one_path_segment_and_names_one_partner(partner_id: str) -> None:
    name = folder_name(partner_id)

    assert "/" not in name
    assert not name.startswith(".")
    assert unquote(name) == partner_id


def test_folders_are_found_by_the_partner_they_are_named_after(tmp_path: Path) -> None:
    drop = DropFolder(tmp_path)
    made = drop.of("../a partner")
    (tmp_path / ".ours").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / ".ours")
    (tmp_path / "file").touch()

    assert [(partner_id, folder.path) for partner_id, folder in drop.all()] == [
        ("../a partner", made.path)
    ]
    assert made.path.parent == tmp_path


def test_drop_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert list(DropFolder(tmp_path / "none").all()) == []


def test_only_regular_files_with_usable_names_are_seen(folder: Folder) -> None:
    put(folder, "a.txt")
    put(folder, "line\nend.json")
    (folder.path / "folder.json").mkdir()
    (folder.path / "link.json").symlink_to("/etc/passwd")
    os.mkfifo(folder.path / "fifo.json")
    os.close(os.open(bytes(folder.path) + b"/\xff.json", os.O_CREAT | os.O_WRONLY))

    assert folder.names() == ["a.txt"]
    assert not folder.has("link.json")


@pytest.mark.parametrize("name", ["link", "folder", "fifo", "none"])
def test_nothing_but_a_regular_file_is_opened(folder: Folder, name: str) -> None:
    """
    A fifo would hold us for as long as its maker likes, a link leads out.
    """
    (folder.path / "link").symlink_to("/etc/passwd")
    (folder.path / "folder").mkdir()
    os.mkfifo(folder.path / "fifo")

    with pytest.raises(OSError):  # noqa: PT011 - which one is the kernel's affair
        folder.open(name, os.O_RDONLY)


@pytest.mark.parametrize("clock_set_by_s", [0, 3600, -3600])
def test_file_is_complete_once_nobody_has_written_to_it_for_a_while(
    tmp_path: Path, clock_set_by_s: int
) -> None:
    clock = Clock()
    folder = DropFolder(tmp_path, clock).of("shop")
    put(folder, "a.txt")
    now_s = changed_at_s(folder, "a.txt")

    assert not folder.is_complete("a.txt", now_s, quiet_s=10)
    clock.now_s = 9.9
    assert not folder.is_complete("a.txt", now_s + clock_set_by_s + 9.9, quiet_s=10)
    clock.now_s = 10
    assert folder.is_complete("a.txt", now_s + clock_set_by_s + 10, quiet_s=10)


def test_a_time_that_the_client_has_set_is_not_believed(folder: Folder) -> None:
    """
    `put -p` gives an upload the time of the original, long before its last byte.
    """
    os.utime(put(folder, "a.txt"), (0, 0))

    assert not folder.is_complete("a.txt", changed_at_s(folder, "a.txt") + 1, quiet_s=10)


def test_upload_is_complete_as_soon_as_it_is_closed(folder: Folder) -> None:
    upload = folder.begin_upload("a.txt")
    put(folder, "a.txt")
    now_s = changed_at_s(folder, "a.txt")

    assert not folder.is_complete("a.txt", now_s + LONG_AGO_S, quiet_s=10)

    folder.finish_upload(upload)

    assert folder.is_complete("a.txt", now_s, quiet_s=10)


def test_upload_that_was_closed_and_written_to_since_must_be_quiet_again(folder: Folder) -> None:
    folder.finish_upload(_uploaded(folder, "a.txt"))
    put(folder, "a.txt", b"more than before")

    assert not folder.is_complete("a.txt", changed_at_s(folder, "a.txt"), quiet_s=10)


def test_upload_that_broke_off_is_never_complete(folder: Folder) -> None:
    folder.break_upload(_uploaded(folder, "a.txt"))

    assert not folder.is_complete("a.txt", changed_at_s(folder, "a.txt") + LONG_AGO_S, quiet_s=10)


def test_upload_of_a_server_that_was_killed_is_never_complete(folder: Folder) -> None:
    """
    A lock would be gone with the process; the mark is not.
    """
    _uploaded(folder, "a.txt")
    after_restart = Folder(folder.path)

    now_s = changed_at_s(folder, "a.txt") + LONG_AGO_S
    assert not after_restart.is_complete("a.txt", now_s, quiet_s=10)


def test_resumed_upload_is_complete_when_it_is_closed(folder: Folder) -> None:
    folder.break_upload(_uploaded(folder, "a.txt"))

    folder.finish_upload(folder.begin_upload("a.txt"))

    assert folder.is_complete("a.txt", changed_at_s(folder, "a.txt"), quiet_s=10)


def test_later_upload_of_a_name_displaces_the_earlier(folder: Folder) -> None:
    """
    A client whose connection broke comes back before the server has noticed.
    """
    stale = _uploaded(folder, "a.txt")
    resumed = folder.begin_upload("a.txt")

    assert not folder.is_current(stale)
    folder.finish_upload(stale)
    assert folder.is_unfinished("a.txt")
    folder.finish_upload(resumed)
    folder.break_upload(stale)
    assert not folder.is_unfinished("a.txt")


def test_file_that_nobody_finished_is_dropped_when_it_is_old(folder: Folder) -> None:
    folder.break_upload(_uploaded(folder, "a.txt"))
    folder.break_upload(folder.begin_upload("never-opened.txt"))
    put(folder, "complete.txt")
    old_s = changed_at_s(folder, "complete.txt") + LONG_AGO_S

    assert folder.drop_abandoned(old_s) == 1

    assert folder.names() == ["complete.txt"]
    assert not folder.is_unfinished("a.txt")
    assert not folder.is_unfinished("never-opened.txt")


def test_file_that_nobody_finished_is_kept_while_it_may_be_resumed(folder: Folder) -> None:
    folder.break_upload(_uploaded(folder, "a.txt"))

    assert folder.drop_abandoned(changed_at_s(folder, "a.txt")) == 0

    assert folder.is_unfinished("a.txt")


def test_upload_that_grew_since_is_kept_by_a_process_that_does_not_know_of_it(
    folder: Folder,
) -> None:
    """
    Another server's client: all that is seen of it are the bytes that come.
    """
    _uploaded(folder, "a.txt")
    mark = folder.path / ".unfinished" / "a.txt"
    begun_s = mark.stat().st_ctime
    while changed_at_s(folder, "a.txt") <= begun_s:  # the kernel's clock ticks in milliseconds
        put(folder, "a.txt", b"more")

    assert Folder(folder.path).drop_abandoned((begun_s + changed_at_s(folder, "a.txt")) / 2) == 0


def test_upload_in_progress_is_never_abandoned(folder: Folder) -> None:
    upload = _uploaded(folder, "a.txt")

    assert folder.drop_abandoned(changed_at_s(folder, "a.txt") + LONG_AGO_S) == 0

    assert folder.is_current(upload)
    assert folder.has("a.txt")


def test_folder_that_never_had_an_upload_has_none_to_drop(folder: Folder) -> None:
    assert folder.drop_abandoned(1e12) == 0


def test_unfinished_file_stays_so_under_another_name(folder: Folder) -> None:
    folder.break_upload(_uploaded(folder, "a.txt"))

    folder.rename("a.txt", "b.txt", replace=False)

    assert folder.is_unfinished("b.txt")
    assert not folder.is_unfinished("a.txt")


def test_finished_file_is_complete_at_once_under_its_new_name(folder: Folder) -> None:
    """
    Many clients upload to `a.filepart` and rename.
    """
    folder.break_upload(_uploaded(folder, "a.txt"))
    folder.finish_upload(_uploaded(folder, "a.filepart"))

    folder.rename("a.filepart", "a.txt", replace=True)

    assert folder.is_complete("a.txt", changed_at_s(folder, "a.txt"), quiet_s=10)


def test_rename_replaces_only_where_it_is_told_to(folder: Folder) -> None:
    put(folder, "a.txt")
    put(folder, "b.txt", b"kept")

    with pytest.raises(FileExistsError):
        folder.rename("a.txt", "b.txt", replace=False)

    assert (folder.path / "b.txt").read_bytes() == b"kept"


@pytest.mark.parametrize(("old", "new"), [("a.txt", "c.txt"), ("b.txt", "a.txt")])
def test_file_that_is_being_written_is_not_renamed(folder: Folder, old: str, new: str) -> None:
    _uploaded(folder, "a.txt")
    put(folder, "b.txt")

    with pytest.raises(Refused, match="being written"):
        folder.rename(old, new, replace=True)


def test_removing_a_file_ends_its_upload(folder: Folder) -> None:
    upload = _uploaded(folder, "a.txt")

    folder.remove("a.txt")

    assert not folder.is_current(upload)
    assert not folder.is_unfinished("a.txt")


def test_full_folder_takes_no_new_file_but_an_old_one_again(folder: Folder) -> None:
    for number in range(MAX_FILES):
        put(folder, f"{number}.txt")

    with pytest.raises(Refused, match="remove some"):
        folder.begin_upload("one-more.txt")
    assert not folder.is_unfinished("one-more.txt")
    folder.begin_upload("0.txt")


def test_file_that_was_taken_is_the_partners_no_longer(folder: Folder) -> None:
    put(folder, "a.txt", b"content")

    folder.take("a.txt", "mine")

    assert folder.names() == []
    path = folder.taken("mine")
    assert path is not None
    assert path.read_bytes() == b"content"
    folder.drop("mine")
    assert folder.taken("mine") is None
    folder.drop("mine")


def test_answer_replaces_the_one_before(folder: Folder) -> None:
    folder.answer("a", b"first")
    folder.answer("a", b"second")

    assert folder.names() == ["a.status"]
    assert (folder.path / "a.status").read_bytes() == b"second"
    assert folder.all_taken() == []


def _uploaded(folder: Folder, name: str) -> Upload:
    upload = folder.begin_upload(name)
    put(folder, name)
    return upload


# -- what the partner sees -------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_file_that_was_taken_can_be_looked_at_for_a_while(tmp_path: Path) -> None:
    """
    Clients look at what they have put, and compare the size.
    """
    clock = Clock()
    folder = DropFolder(tmp_path, clock).of("shop")
    put(folder, "a.txt", b"four")

    folder.take("a.txt", "1.data")

    clock.now_s = 29.9
    assert folder.shown_stat("a.txt").st_size == 4
    assert "a.txt" not in folder.shown()
    clock.now_s = 30
    with pytest.raises(FileNotFoundError):
        folder.shown_stat("a.txt")


def test_answer_to_an_earlier_file_is_not_shown_beside_a_newer_one(folder: Folder) -> None:
    put(folder, "a.txt.status")
    put(folder, "b.status")
    assert folder.shown() == ["a.txt.status", "b.status"]

    put(folder, "a.txt.JSON")

    assert folder.shown() == ["a.txt.JSON", "b.status"]
    with pytest.raises(FileNotFoundError):
        folder.shown_stat("a.txt.status")
    with pytest.raises(FileNotFoundError):
        folder.open_shown("a.txt.status")


def test_answer_is_not_shown_while_its_metadata_is_being_read(folder: Folder) -> None:
    put(folder, "a.json")
    put(folder, "a.status")
    folder.take("a.json", "a.json")

    assert folder.shown() == []
    folder.drop("a.json")
    assert folder.shown() == ["a.status"]


def test_answers_do_not_fill_the_folder(folder: Folder) -> None:
    for number in range(MAX_FILES):
        put(folder, f"{number}.status")

    folder.finish_upload(folder.begin_upload("a.txt"))
    for number in range(MAX_FILES):
        put(folder, f"{number}.txt")
    with pytest.raises(Refused, match="remove some"):
        folder.begin_upload("b.txt")


def test_answers_go_when_they_are_old(folder: Folder) -> None:
    put(folder, "a.status")
    put(folder, "a.txt")
    given_at_s = changed_at_s(folder, "a.status")

    assert folder.drop_answers(given_at_s) == 0
    assert folder.drop_answers(given_at_s + 1) == 1
    assert folder.names() == ["a.txt"]


def test_file_that_never_got_its_name_goes_when_it_is_old(folder: Folder) -> None:
    put(folder, ".a.txt")
    put(folder, "b.txt")
    begun_at_s = changed_at_s(folder, ".a.txt")

    assert folder.drop_abandoned(begun_at_s) == 0
    assert folder.drop_abandoned(begun_at_s + 1) == 1
    assert folder.names() == ["b.txt"]
