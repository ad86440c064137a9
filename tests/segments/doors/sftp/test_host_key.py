import stat
from pathlib import Path

from segments.doors.sftp.host_key import host_keys


def test_host_keys_are_of_the_three_kinds_that_clients_know_and_stay(tmp_path: Path) -> None:
    made = host_keys(tmp_path / "sftp")
    again = host_keys(tmp_path / "sftp")

    assert [key.get_algorithm() for key in made] == [
        "ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"
    ]  # fmt: skip
    assert [key.get_fingerprint() for key in again] == [key.get_fingerprint() for key in made]
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "sftp").iterdir()}
    assert modes == {0o600}


def test_key_of_an_earlier_release_is_kept_beside_the_new_kinds(tmp_path: Path) -> None:
    earlier = host_keys(tmp_path)[0].get_fingerprint()
    for name in ("host_key_ecdsa", "host_key_rsa"):
        (tmp_path / name).unlink()

    assert host_keys(tmp_path)[0].get_fingerprint() == earlier
