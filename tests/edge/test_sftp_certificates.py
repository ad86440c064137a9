"""
Certificates of an authority that a partner names, made by `ssh-keygen` and used by `sftp`.

As in sshd: the authority says who its keys' owners are, and the partner's line which of
these names may log in as the partner.
"""

import pytest

from segments.doors.sftp.public_key import read_public_keys
from segments.ledger import accounts
from segments.ledger.database.engine import open_ledger
from segments.ledger.live_audience import ssh_keys
from tests.edge.sftp_door import door, ran, ssh_options
from tests.sftp import Door, Ran, new_key

__all__ = ["door"]


async def allow(door: Door, options: str, partner_id: str = "shop", key: str = "ca") -> None:
    """Let a partner log in by a line of `authorized_keys`."""
    line = f"{options} {(door.folder / f'{key}.pub').read_text()}".strip()
    async with open_ledger(door.settings.ledger_dsn) as ledger, ledger.begin() as conn:
        partner = await accounts.partner(conn, partner_id)
        for each in read_public_keys(line.encode(), partner.id):
            await ssh_keys.add_key(conn, each, now_s=0)


async def login(door: Door, *signing: str, user: str = "shop") -> Ran:
    """Sign a fresh key with these options of `ssh-keygen`, and log in with it."""
    new_key(door.folder / "member")
    signed = await ran(door, "ssh-keygen", "-q", "-s", "ca", "-I", "x", *signing, "member.pub")
    assert signed.status == 0, signed.said
    looked = await ran(
        door, "sftp", "-b", "-", *ssh_options(door, "member"), "-P", str(door.port),
        f"{user}@127.0.0.1", text="ls\n",
    )  # fmt: skip
    for path in door.folder.glob("member*"):
        path.unlink()
    return looked


@pytest.fixture
async def authority(door: Door) -> Door:
    """A door at which both partners trust one authority."""
    new_key(door.folder / "ca")
    await allow(door, "cert-authority")
    await allow(door, "cert-authority", "rival")
    return door


async def test_certificate_opens_the_folder_of_the_partner_that_it_names(authority: Door) -> None:
    assert (await login(authority, "-n", "shop")).status == 0
    assert (await login(authority, "-n", "other,shop")).status == 0


async def test_another_partners_certificate_of_the_same_authority_opens_nothing(
    authority: Door,
) -> None:
    assert (await login(authority, "-n", "rival")).status == 255
    assert (await login(authority, "-n", "rival", user="rival")).status == 0


async def test_certificate_that_names_nobody_opens_nothing(authority: Door) -> None:
    """
    OpenSSH up to 10.0 took it for everybody's.
    """
    assert (await login(authority)).status == 255


@pytest.mark.parametrize(
    "signing",
    [
        pytest.param(("-V", "20200101:20200102"), id="no longer valid"),
        pytest.param(("-V", "20990101:20990102"), id="not yet valid"),
        pytest.param(("-h",), id="a host's"),
        pytest.param(("-O", "source-address=192.0.2.0/24"), id="from elsewhere"),
        pytest.param(("-O", "critical:next@example.com=1"), id="an unknown critical option"),
        pytest.param(("-O", "force-command=/bin/sh"), id="a command"),
    ],
)
async def test_certificate_that_does_not_hold_here_and_now_opens_nothing(
    authority: Door, signing: tuple[str, ...]
) -> None:
    assert (await login(authority, "-n", "shop", *signing)).status == 255


async def test_certificate_may_name_one_of_the_lines_principals_instead(door: Door) -> None:
    new_key(door.folder / "ca")
    await allow(door, 'cert-authority,principals="prod,test"')

    assert (await login(door, "-n", "test")).status == 0
    assert (await login(door, "-n", "shop")).status == 255


async def test_authority_is_no_key_and_a_key_is_no_authority(door: Door) -> None:
    new_key(door.folder / "ca")
    await allow(door, "cert-authority")
    assert (await door.sftp("shop", "ls", key="ca")).status == 255

    new_key(door.folder / "plain")
    await allow(door, "", key="plain")
    (door.folder / "plain").rename(door.folder / "ca")
    assert (await login(door, "-n", "shop")).status == 255


@pytest.mark.parametrize(
    ("options", "status"),
    [
        pytest.param('from="127.0.0.0/8"', 0, id="from here"),
        pytest.param('from="192.0.2.0/24"', 255, id="from elsewhere"),
        pytest.param('expiry-time="20990101Z"', 0, id="not yet over"),
        pytest.param('expiry-time="20200101Z"', 255, id="over"),
    ],
)
async def test_limits_of_a_key_are_obeyed(door: Door, options: str, status: int) -> None:
    new_key(door.folder / "limited")
    await allow(door, options, key="limited")

    assert (await door.sftp("shop", "ls", key="limited")).status == status
