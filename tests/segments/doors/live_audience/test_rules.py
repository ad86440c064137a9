from typing import Any

import pytest

from segments.doors.live_audience import rules
from segments.doors.live_audience.codes import code_of
from segments.doors.live_audience.file_names import answered_name
from segments.model.stop_reason import StopReason
from tests.segments.ingest.deliveries import PARTNER_ID, as_json, metadata_of


def raw(**fields: Any) -> bytes:
    return as_json(metadata_of(b"", records=0, **fields))


@pytest.mark.parametrize(
    ("file_name", "expected"),
    [
        pytest.param("my_request.json", "my_request", id="the document's example"),
        pytest.param("a.txt.json", "a.txt", id="the data file's name and .json"),
        pytest.param("A.JSON", "A", id="upper case"),
        pytest.param("a.txt", None, id="a data file"),
        pytest.param("a.status", None, id="an answer"),
        pytest.param("a.json.filepart", None, id="still being uploaded"),
        pytest.param(".json", None, id="no name"),
        pytest.param(".a.json", None, id="has yet to get its name"),
    ],
)
def test_answer_is_named_after_the_metadata_file(file_name: str, expected: str | None) -> None:
    assert answered_name(file_name) == expected


THERE = ("A.txt", "a.GZ", "a.TXT", "a.txt", "a.txt.Gz", "a.txt.part", "a.zip", "b.txt")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param("a.txt", ["a.txt", "a.TXT", "a.txt.Gz", "a.GZ", "a.zip"], id="compressed"),
        pytest.param("a.txt>", ["a.txt", "a.TXT", "a.txt.Gz", "a.GZ", "a.zip"], id="the sample's"),
        pytest.param("a.TXT", ["a.TXT", "a.txt", "a.txt.Gz", "a.GZ", "a.zip"], id="upper case"),
        pytest.param("a.ZIP", ["a.zip", "a.GZ"], id="the archive by its name"),
        pytest.param("a", ["a.GZ", "a.zip"], id="no suffix"),
        pytest.param("c.txt", [], id="not there"),
        pytest.param("a" + ".txt" * 5_000, [], id="a suffix for each character of a name"),
    ],
)
def test_data_file_is_found_under_these_names_suffixes_in_any_case(
    said: str, expected: list[str]
) -> None:
    assert rules.data_files(said, THERE) == expected


def test_metadata_of_the_folders_partner_is_in_order() -> None:
    said = rules.read(raw(callback_url="https://a.example/done?x=1"), PARTNER_ID)

    assert said.refused is None
    assert said.metadata is not None


def test_partner_speaks_for_itself_alone() -> None:
    said = rules.read(raw(), "another")

    assert said.refused is not None
    assert said.refused.reason is StopReason.UNKNOWN_PARTNER
    assert PARTNER_ID not in str(said.refused)


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("nonsense", id="no URL"),
        pytest.param("ftp://a.example/", id="another scheme"),
        pytest.param("//a.example/", id="no scheme"),
        pytest.param("https:///path", id="no host"),
        pytest.param("https://a.example:99999/", id="no such port"),
        pytest.param("https://[::1/", id="broken brackets"),
        pytest.param("https://a.example/ b", id="blank"),
        pytest.param("https://a.example/\r\nHost: b", id="header injection"),
        pytest.param("https://a.example/\x00", id="nul"),
        pytest.param("https://ä.example/", id="not ASCII"),
        pytest.param("https://a.example/" + "x" * rules.MAX_URL_CHARS, id="too long"),
    ],
)
def test_callback_url_of_wrong_form_is_error_5(url: str) -> None:
    said = rules.read(raw(callback_url=url), PARTNER_ID)

    assert said.metadata is None
    assert said.refused is not None
    assert code_of(said.refused.reason) == 5
    assert url not in str(said.refused)
