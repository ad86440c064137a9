from datetime import UTC, datetime

import pytest

from segments.doors.sftp.key_options import KeyOptions, read_options, split_options
from segments.model.refusal import Refusal


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param("cert-authority ssh-ed25519 A", ("cert-authority", "ssh-ed25519 A"), id="one"),
        pytest.param(
            'from="10.0.0.0/8, 192.0.2.1",restrict ssh-rsa B me',
            ('from="10.0.0.0/8, 192.0.2.1",restrict', "ssh-rsa B me"),
            id="a space in quotes",
        ),
        pytest.param(
            r'principals="a\" b"  ssh-rsa B', (r'principals="a\" b"', "ssh-rsa B"), id="a quote"
        ),
    ],
)
def test_options_end_at_the_first_space_that_is_not_quoted(
    line: str, expected: tuple[str, str]
) -> None:
    assert split_options(line) == expected


@pytest.mark.parametrize(
    ("patterns", "address", "is_permitted"),
    [
        pytest.param("192.0.2.1", "192.0.2.1", True, id="an address"),
        pytest.param("192.0.2.1", "192.0.2.11", False, id="another address"),
        pytest.param("10.0.0.0/8", "10.1.2.3", True, id="a network"),
        pytest.param("10.0.0.0/8", "11.1.2.3", False, id="another network"),
        pytest.param("10.0.0.0/8,!10.1.1.1", "10.1.1.1", False, id="an exception"),
        pytest.param("!10.1.1.1,10.0.0.0/8", "10.1.1.1", False, id="an exception in front"),
        pytest.param("!10.1.1.1", "10.1.1.2", False, id="an exception from nothing"),
        pytest.param("192.0.2.*", "192.0.2.77", True, id="a wildcard"),
        pytest.param("2001:db8::/32", "2001:db8::1", True, id="an IPv6 network"),
        pytest.param("2001:db8::/32", "192.0.2.1", False, id="IPv4 at an IPv6 network"),
    ],
)
def test_key_is_good_from_these_addresses(patterns: str, address: str, is_permitted: bool) -> None:
    assert read_options(f'from="{patterns}"').permits(address, now_s=0) is is_permitted


def test_key_is_good_until_its_expiry_time() -> None:
    options = read_options('expiry-time="202701021530Z"')

    ends_at_s = datetime(2027, 1, 2, 15, 30, tzinfo=UTC).timestamp()
    assert options.permits("192.0.2.1", ends_at_s - 1)
    assert not options.permits("192.0.2.1", ends_at_s)


@pytest.mark.parametrize(
    ("options", "principals", "is_permitted"),
    [
        pytest.param("cert-authority", ("shop",), True, id="the user name"),
        pytest.param("cert-authority", ("rival", "shop"), True, id="the user name among others"),
        pytest.param("cert-authority", ("rival",), False, id="another's"),
        pytest.param("cert-authority", (), False, id="nobody's"),
        pytest.param('cert-authority,principals="prod,test"', ("test",), True, id="of the list"),
        pytest.param('cert-authority,principals="prod"', ("shop",), False, id="not of the list"),
        pytest.param('cert-authority,principals="prod"', (), False, id="nobody's, with a list"),
        pytest.param("", ("shop",), False, id="no authority"),
    ],
)
def test_certificate_opens_a_folder_by_a_principal_that_it_names(
    options: str, principals: tuple[str, ...], is_permitted: bool
) -> None:
    assert read_options(options).permits_certificate("shop", principals) is is_permitted


def test_options_that_take_away_what_there_is_not_are_taken() -> None:
    assert read_options('restrict,no-pty,command="internal-sftp",permitopen="a:1"') == KeyOptions()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param('command="/bin/sh"', "command is not obeyed", id="another command"),
        pytest.param("verify-required", "verify-required is not obeyed", id="one we can't check"),
        pytest.param("next-years-option", "next-years-option is not obeyed", id="unknown"),
        pytest.param('from="build.example.com"', "no names of hosts", id="the name of a host"),
        pytest.param('principals="shop"', "without cert-authority", id="principals of a key"),
        pytest.param('expiry-time="soon"', "expiry-time is not", id="no time"),
        pytest.param('expiry-time="20270231"', "expiry-time is not", id="no day"),
        pytest.param('from="10.0.0.1', "not a list", id="a quote that is not closed"),
        pytest.param("from", "from is not obeyed", id="no value"),
    ],
)
def test_option_that_is_not_obeyed_is_refused_by_its_name(options: str, said: str) -> None:
    """
    A limit that is not understood must not be taken for none.
    """
    with pytest.raises(Refusal, match=said):
        read_options(options)
