from typing import Any

import pytest

from segments.doors.live_audience import rules
from segments.doors.live_audience.codes import code_of
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
    ],
)
def test_answer_is_named_after_the_metadata_file(file_name: str, expected: str | None) -> None:
    assert rules.answer_name(file_name) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param(
            "a.txt", ("a.txt", "a.txt.gz", "a.txt.zip", "a.gz", "a.zip"), id="may be compressed"
        ),
        pytest.param("a", ("a", "a.gz", "a.zip"), id="no suffix"),
        pytest.param(".txt", (".txt", ".txt.gz", ".txt.zip"), id="nothing but a suffix"),
    ],
)
def test_data_file_is_looked_for_under_these_names(name: str, expected: tuple[str, ...]) -> None:
    assert rules.data_file_names(name) == expected


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
