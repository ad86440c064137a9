"""Base connections: what can be read through one, and that nothing else can."""

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from segments.connection import (
    MAX_FILES,
    BaseConnection,
    NotThere,
    SourceFile,
    StorageAway,
    TooManyFiles,
    checked,
    checked_path,
    open_storage,
)
from segments.ledger.refusal import Refusal

BUCKET = "customers"


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


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The URL of an S3 server."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def connection(url: str, **options: str) -> BaseConnection:
    return BaseConnection(1, "x", 1, "x", url, options)


def test_files_of_a_folder_are_listed_and_read(root: Path) -> None:
    storage = open_storage(connection(root.as_uri()))

    files = storage.folder("in")

    assert [(file.path, file.size_bytes) for file in files] == [
        ("in/a.csv", 1),
        ("in/deep/b.csv", 2),
    ]
    with storage.open(files[1]) as raw:
        assert raw.read() == b"bb"
    assert storage.file("in/a.csv") == files[0]
    assert storage.folder("none") == []


@pytest.mark.parametrize(
    "text",
    ["", "/", "/etc/passwd", "..", "../secret.csv", "in/../../secret.csv", "./in", "in//a.csv",
     "in/./a.csv", "in\\..\\a.csv", "in/a b.csv", "in/a\x00.csv", "in/a\n.csv", "x" * 1025],
)  # fmt: skip
def test_path_that_could_lead_elsewhere_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="path"):
        checked_path(text)


def test_slash_at_the_end_of_a_folder_is_none() -> None:
    assert checked_path("in/deep/") == "in/deep"


def link_file(root: Path) -> str:
    (root / "in" / "link.csv").symlink_to(root.parent / "secret.csv")
    return "in/link.csv"


def link_folder(root: Path) -> str:
    (root / "in" / "link").symlink_to(root.parent / "secrets")
    return "in/link/c.csv"


def upwards(_: Path) -> str:
    return "in/../../secret.csv"


def absolute(root: Path) -> str:
    return str(root.parent / "secret.csv")


def fifo(root: Path) -> str:
    os.mkfifo(root / "in" / "pipe.csv")
    return "in/pipe.csv"


def folder(_: Path) -> str:
    return "in/deep"


@pytest.mark.parametrize("make", [link_file, link_folder, upwards, absolute, fifo, folder])
def test_nothing_outside_and_no_link_is_read_even_if_the_path_was_not_checked(
    root: Path, make: Callable[[Path], str]
) -> None:
    path = make(root)
    storage = open_storage(connection(root.as_uri()))

    if make in (upwards, absolute):
        path = checked_path_or_none(path)
        assert path == ""
        return
    with pytest.raises(NotThere):
        storage.file(path)
    with pytest.raises(NotThere):
        storage.open(SourceFile(path, "", 6, 0.0))
    assert [file.path for file in storage.folder("in")] == ["in/a.csv", "in/deep/b.csv"]


def checked_path_or_none(path: str) -> str:
    try:
        return checked_path(path)
    except ValueError:
        return ""


def test_file_that_becomes_a_link_behind_the_listing_is_not_read(root: Path) -> None:
    storage = open_storage(connection(root.as_uri()))
    [listed, _] = storage.folder("in")

    (root / "in" / "a.csv").unlink()
    (root / "in" / "a.csv").symlink_to(root.parent / "secret.csv")

    with pytest.raises(NotThere):
        storage.open(listed)


def test_folder_that_becomes_a_link_behind_the_listing_is_not_entered(root: Path) -> None:
    storage = open_storage(connection(root.as_uri()))
    [_, listed] = storage.folder("in")

    (root / "in" / "deep").rename(root / "deep")
    (root / "in" / "deep").symlink_to(root / "deep")

    with pytest.raises(NotThere):
        storage.open(listed)


def test_file_that_was_changed_is_not_the_one_that_was_listed(root: Path) -> None:
    storage = open_storage(connection(root.as_uri()))
    listed = storage.file("in/a.csv")

    (root / "in" / "a.csv").write_text("other")

    with pytest.raises(NotThere):
        storage.open(listed)


def test_what_tools_leave_beside_the_data_is_left_out(root: Path) -> None:
    for name in ("_SUCCESS", ".a.csv.crc", "_temporary/x.csv", "bad\nname.csv"):
        path = root / "in" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")

    files = open_storage(connection(root.as_uri())).folder("in")

    assert [file.path for file in files] == ["in/a.csv", "in/deep/b.csv"]


def test_folder_of_too_many_files_is_refused(root: Path) -> None:
    for number in range(MAX_FILES + 1):
        os.close(os.open(root / "in" / f"{number}.csv", os.O_CREAT))

    with pytest.raises(TooManyFiles):
        open_storage(connection(root.as_uri())).folder("in")


def test_directory_that_is_gone_is_away_and_not_empty(tmp_path: Path) -> None:
    storage = open_storage(connection((tmp_path / "gone").as_uri()))

    with pytest.raises(StorageAway):
        storage.folder("in")
    with pytest.raises(StorageAway):
        storage.file("in/a.csv")


@pytest.mark.parametrize(
    ("url", "options"),
    [
        pytest.param("file:relative", {}, id="no directory"),
        pytest.param("file://host/in", {}, id="another machine"),
        pytest.param("nope://x", {}, id="no scheme of ours"),
        pytest.param("s3://x", {"aws_secret_access_key": "plain"}, id="a secret as it stands"),
        pytest.param("s3://x", {"aws_secret_access_key": "env:NOT_SET"}, id="no such variable"),
        pytest.param("s3://x", {"no_prefix": "1"}, id="no option of a bucket"),
        pytest.param("s3://x", {"aws_no_such_option": "1"}, id="no such option"),
    ],
)
def test_connection_that_cannot_be_opened_is_refused_when_it_is_added(
    url: str, options: dict[str, str]
) -> None:
    with pytest.raises(Refusal) as refused:
        checked(url, options)

    assert "plain" not in str(refused.value)


async def test_bucket_is_read_below_its_prefix_alone(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUSTOMER_SECRET", "secret")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    client = boto3.client("s3", endpoint_url=s3, region_name="us-east-1")
    await asyncio.to_thread(client.create_bucket, Bucket=BUCKET)
    for key in ("acme/in/a.csv", "acme/in/_SUCCESS", "acme/in/deep/b.csv", "other/secret.csv"):
        await asyncio.to_thread(client.put_object, Bucket=BUCKET, Key=key, Body=b"abc")
    storage = open_storage(
        connection(
            f"s3://{BUCKET}/acme",
            aws_access_key_id="AKID",
            aws_secret_access_key="env:CUSTOMER_SECRET",
            aws_region="us-east-1",
            aws_endpoint_url=s3,
            allow_http="true",
        )
    )

    files = await asyncio.to_thread(storage.folder, "in")
    changed = await asyncio.to_thread(storage.file, "in/a.csv")
    with await asyncio.to_thread(storage.open, files[0]) as raw:
        content = await asyncio.to_thread(raw.read)
    await asyncio.to_thread(client.put_object, Bucket=BUCKET, Key="acme/in/a.csv", Body=b"new")

    assert [file.path for file in files] == ["in/a.csv", "in/deep/b.csv"]
    assert (content, changed) == (b"abc", files[0])
    with pytest.raises(NotThere):
        await asyncio.to_thread(storage.open, files[0])
    with pytest.raises(NotThere):
        await asyncio.to_thread(storage.file, "other/secret.csv")


async def test_bucket_that_is_not_there_is_away(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUSTOMER_SECRET", "secret")
    storage = open_storage(
        connection(
            "s3://no-such-bucket",
            aws_access_key_id="AKID",
            aws_secret_access_key="env:CUSTOMER_SECRET",
            aws_region="us-east-1",
            aws_endpoint_url=s3,
            allow_http="true",
        )
    )

    with pytest.raises(StorageAway):
        await asyncio.to_thread(storage.folder, "in")
