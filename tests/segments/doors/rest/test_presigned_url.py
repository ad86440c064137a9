"""botocore, which signs for AWS itself, is the oracle."""

from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from segments.doors.rest.presigned_url import MAX_AHEAD_S, Refused, SigningKey, check, signed_url

KEY = SigningKey("AKID", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
NOW_S = 1_767_225_600.0
HOST = "audiences.example:8082"
NAMES = st.text(st.characters(exclude_categories=["C"], exclude_characters="/"), min_size=1)


def url_of(filename: str = "add.txt", *, expires_in_s: int = 3600, base: str = "") -> str:
    return signed_url(
        "PUT",
        base or f"https://{HOST}",
        f"/uploads/add/61f288f4de4fd1acb888783b/{filename}",
        {"x-amz-meta-action": "add", "x-amz-meta-filename": filename},
        KEY,
        now_s=NOW_S,
        expires_in_s=expires_in_s,
    )


def target_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def signature_of_botocore(url: str) -> str:
    """Let botocore sign what was signed, at the time at which it was signed."""
    unsigned = url.partition("&X-Amz-Content-Sha256=")[0]
    request = AWSRequest(method="PUT", url=unsigned)
    auth = S3SigV4QueryAuth(Credentials(*KEY), "s3", "us-east-1", expires=3600)
    request.context["timestamp"] = datetime.fromtimestamp(NOW_S, UTC).strftime("%Y%m%dT%H%M%SZ")
    request.params = {"X-Amz-Content-Sha256": "UNSIGNED-PAYLOAD"}
    auth._modify_request_before_signing(request)
    canonical = auth.canonical_request(request)
    return str(auth.signature(auth.string_to_sign(request, canonical), request))


@given(NAMES)
def test_signature_is_the_one_that_botocore_makes(filename: str) -> None:
    url = url_of(filename)

    assert url.rpartition("&X-Amz-Signature=")[2] == signature_of_botocore(url)


@given(NAMES)
def test_what_was_signed_is_permitted(filename: str) -> None:
    check("PUT", HOST, target_of(url_of(filename)), KEY, now_s=NOW_S)


def test_prefix_of_a_proxy_is_part_of_what_is_signed() -> None:
    url = url_of(base=f"https://{HOST}/audience-api")

    check("PUT", HOST, target_of(url), KEY, now_s=NOW_S)

    assert url.startswith(f"https://{HOST}/audience-api/uploads/")


def test_escapes_in_lower_case_are_the_same_url() -> None:
    """
    Clients write the same URL in more than one way.
    """
    target = target_of(url_of("ü.txt"))

    check("PUT", HOST, target.replace("%C3%BC", "%c3%bc"), KEY, now_s=NOW_S)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("meta-action=add", "meta-action=remove", id="parameter changed"),
        pytest.param("/add/", "/remove/", id="path changed"),
        pytest.param("&x-amz-meta-filename=add.txt", "", id="parameter left out"),
        pytest.param("&X-Amz-Date", "&x-amz-meta-type=sha1&X-Amz-Date", id="parameter added"),
        pytest.param("X-Amz-Expires=3600", "X-Amz-Expires=360000", id="expiry moved"),
        pytest.param("X-Amz-Date=2026", "X-Amz-Date=2027", id="date moved"),
        pytest.param("Credential=AKID", "Credential=OTHER", id="credential changed"),
        pytest.param("&X-Amz-Signature=", "&X-Amz-Signature=0", id="signature changed"),
        pytest.param("X-Amz-Signature", "X-Amz-Other", id="no signature"),
        pytest.param("?", "?x-amz-meta-action=add&", id="parameter twice"),
        pytest.param("&X-Amz-Signature=", "&X-Amz-Signature=%FF%00", id="signature of bytes"),
    ],
)
def test_changed_url_is_refused(old: str, new: str) -> None:
    target = target_of(url_of())
    assert old in target

    with pytest.raises(Refused):
        check("PUT", HOST, target.replace(old, new), KEY, now_s=NOW_S)


@pytest.mark.parametrize(
    ("method", "host"),
    [pytest.param("GET", HOST, id="method"), pytest.param("PUT", "other.example", id="host")],
)
def test_url_permits_one_method_at_one_host(method: str, host: str) -> None:
    with pytest.raises(Refused):
        check(method, host, target_of(url_of()), KEY, now_s=NOW_S)


def test_url_of_another_key_is_refused() -> None:
    with pytest.raises(Refused):
        check("PUT", HOST, target_of(url_of()), SigningKey("AKID", "other"), now_s=NOW_S)


@pytest.mark.parametrize(
    ("after_s", "is_good"),
    [
        pytest.param(3599, True, id="last second"),
        pytest.param(3600, False, id="expired"),
        pytest.param(-MAX_AHEAD_S, True, id="a replica's clock ahead"),
        pytest.param(-MAX_AHEAD_S - 1, False, id="from the future"),
    ],
)
def test_url_is_good_until_it_expires(after_s: int, is_good: bool) -> None:
    target = target_of(url_of())

    if is_good:
        check("PUT", HOST, target, KEY, now_s=NOW_S + after_s)
    else:
        with pytest.raises(Refused):
            check("PUT", HOST, target, KEY, now_s=NOW_S + after_s)


@given(st.text())
def test_no_target_is_more_than_refused(target: str) -> None:
    with pytest.raises(Refused):
        check("PUT", HOST, target, KEY, now_s=NOW_S)
