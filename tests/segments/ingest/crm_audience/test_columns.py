import pytest

from segments.ingest.crm_audience.columns import Columns, DataType, columns_of

EMAIL, PHONE, AAID = DataType.EMAIL, DataType.PHONE, DataType.AAID


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        pytest.param(b"EMAIL,PHONE,AAID\n", (EMAIL, PHONE, AAID), id="the document's words"),
        pytest.param(b"Email,Phone\r\n", (EMAIL, PHONE), id="the portal's words, CRLF"),
        pytest.param(
            b'"Postal address",security_number',
            (DataType.POSTALADDRESS, DataType.SECURITYNUMBER),
            id="quotes, blanks, no line end",
        ),
        pytest.param(
            b"\n\nname,EMAIL\n", (None, EMAIL), id="blank lines, and a column to pass over"
        ),
        pytest.param(b"PHONE\n", (PHONE,), id="one column that is not of e-mail hashes"),
        pytest.param(b"EMAIL\n", None, id="one column of e-mail hashes"),
        pytest.param(b"email_sha256,first name\n", None, id="no title that we know"),
        pytest.param(b"a1" * 32 + b"\n", None, id="a hash"),
        pytest.param(b"\xff\xfe,EMAIL\n", None, id="not UTF-8"),
        pytest.param(b"EMAIL" + b",x" * 64, None, id="too many columns"),
        pytest.param(b"", None, id="nothing"),
    ],
)
def test_first_line_names_the_columns(text: bytes, columns: Columns | None) -> None:
    assert columns_of(text) == columns
