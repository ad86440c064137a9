"""Base connections: which paths and which URLs are taken."""

from pathlib import Path

import pytest

from segments.files import base_connection
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


@pytest.mark.parametrize("scheme_and_prefix", [("s3", "aws"), ("gs", "google"), ("az", "azure")])
@pytest.mark.parametrize("name", sorted(base_connection._OF_THE_CLIENT))
def test_option_of_the_client_behind_the_prefix_of_the_bucket_is_refused_by_name(
    scheme_and_prefix: tuple[str, str], name: str
) -> None:
    """
    obstore panics at it, and a panic is no exception.
    """
    scheme, prefix = scheme_and_prefix

    with pytest.raises(Refusal, match=f"{prefix}_{name} is none of the bucket's"):
        checked(f"{scheme}://x", {f"{prefix}_{name}": "true"})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"aws_allow_http": "true"}, "aws_allow_http is none of the bucket's: it is called allow"),
        ({"allow_http": "yes"}, "allow_http is true or false"),
        ({"aws_no_such_option": "1"}, "no option of this kind of bucket: aws_no_such_option"),
        ({"aws_virtual_hosted_style_request": "ja"}, "true or false is neither"),
        ({"no_prefix": "1"}, "option no_prefix: options are"),
    ],
)
def test_option_that_is_wrong_is_said_by_its_name(options: dict[str, str], says: str) -> None:
    with pytest.raises(Refusal, match=says):
        checked("s3://x", options)


def test_directory_is_opened_by_its_url(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "in.csv").write_text("a")

    storage = open_storage(BaseConnection(1, "x", 1, "x", (tmp_path / "a b").as_uri(), {}))

    assert storage.file("in.csv").size_bytes == 1
