"""Base connections: which paths and which URLs are taken."""

from pathlib import Path

import pytest

from segments.files.base_connection import BaseConnection, checked, checked_path, open_storage
from segments.model.refusal import Refusal


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


def test_directory_is_opened_by_its_url(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "in.csv").write_text("a")

    storage = open_storage(BaseConnection(1, "x", 1, "x", (tmp_path / "a b").as_uri(), {}))

    assert storage.file("in.csv").size_bytes == 1
