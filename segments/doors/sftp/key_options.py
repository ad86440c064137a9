"""
Options before a key in an `authorized_keys` file (sshd(8)).

    from="10.0.0.0/8,!10.1.1.1"   client addresses; no host names
    expiry-time="20270101Z"       end of the key's validity
    cert-authority                the key signs certificates, and opens nothing by itself
    principals="acme,acme-prod"   ... which certificates: of any of these names

Options about features that we lack (terminals, forwarding, commands) are accepted. Others are
refused when the key is added: an unknown restriction must not be ignored.
"""

import re
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network
from typing import NamedTuple

from segments.model.refusal import Refusal

_OPTION = re.compile(r'([A-Za-z0-9-]+)(?:="((?:[^"\\]|\\.)*)")?(?:,|$)')
_PATTERN = re.compile(r"!?[0-9A-Fa-f:.*?]+(/[0-9]{1,3})?")
_EXPIRY = re.compile(r"([0-9]{8})([0-9]{4})?([0-9]{2})?(Z?)")

_ABOUT_WHAT_IS_NOT_HERE = frozenset({
    "agent-forwarding", "environment", "no-agent-forwarding", "no-port-forwarding", "no-pty",
    "no-touch-required", "no-user-rc", "no-x11-forwarding", "permitlisten", "permitopen",
    "port-forwarding", "pty", "restrict", "tunnel", "user-rc", "x11-forwarding",
})  # fmt: skip


class KeyOptions(NamedTuple):
    """A line's options; by default none."""

    is_authority: bool = False
    principals: tuple[str, ...] | None = None  # `None`: the user name
    from_patterns: tuple[str, ...] = ()
    expires_at_s: float | None = None

    def permits(self, address: str, now_s: float) -> bool:
        """Tell whether a client at an address may use the key now."""
        if self.expires_at_s is not None and now_s >= self.expires_at_s:
            return False
        return not self.from_patterns or _matches(self.from_patterns, address)

    def permits_certificate(self, username: str, principals: tuple[str, ...]) -> bool:
        """
        Tell whether a certificate of this authority opens a user's folder.

        A certificate without principals opens nothing, as in OpenSSH since 10.1.
        """
        wanted = (username,) if self.principals is None else self.principals
        return self.is_authority and any(each in wanted for each in principals)


def split_options(line: str) -> tuple[str, str]:
    """Split a line into options and the rest: key type and key."""
    at, is_quoted = 0, False
    while at < len(line) and (is_quoted or line[at] not in " \t"):
        if line[at] == "\\" and is_quoted:
            at += 1
        elif line[at] == '"':
            is_quoted = not is_quoted
        at += 1
    return line[:at], line[at:].strip()


def read_options(text: str) -> KeyOptions:
    """
    Parse the options of a line.

    Raises:
        Refusal: An option is malformed or not supported.
    """
    options = KeyOptions()
    at = 0
    while at < len(text):
        found = _OPTION.match(text, at)
        if found is None:
            raise Refusal("its options are not a list as in an authorized_keys file")
        at = found.end()
        name, value = found[1].lower(), found[2]
        options = _with(options, name, None if value is None else re.sub(r"\\(.)", r"\1", value))
    if options.principals is not None and not options.is_authority:
        raise Refusal("principals= without cert-authority says nothing")
    return options


def _with(options: KeyOptions, name: str, value: str | None) -> KeyOptions:
    match name:
        case "cert-authority" if value is None:
            return options._replace(is_authority=True)
        case "principals" if value:
            return options._replace(principals=tuple(p.strip() for p in value.split(",")))
        case "from" if value:
            patterns = tuple(pattern.strip() for pattern in value.split(","))
            if not all(_PATTERN.fullmatch(pattern) for pattern in patterns):
                raise Refusal("from= takes addresses, wildcards and CIDR here, no names of hosts")
            return options._replace(from_patterns=options.from_patterns + patterns)
        case "expiry-time" if value:
            return options._replace(expires_at_s=_expiry(value))
        case "command" if value == "internal-sftp":
            return options
        case _ if name in _ABOUT_WHAT_IS_NOT_HERE:
            return options
        case _:
            raise Refusal(f"the option {name} is not obeyed here; take it out to add the key")


def _expiry(text: str) -> float:
    found = _EXPIRY.fullmatch(text)
    digits = "" if found is None else f"{found[1]}{found[2] or '0000'}{found[3] or '00'}"
    try:
        said = datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        raise Refusal("expiry-time is not YYYYMMDD[HHMM[SS]][Z]") from None
    is_utc = found is not None and found[4] == "Z"
    # Without a Z, in the local time zone, as for sshd.
    return said.timestamp() if is_utc else said.replace(tzinfo=None).astimezone().timestamp()


def _matches(patterns: tuple[str, ...], address: str) -> bool:
    """Tell whether an address matches a pattern, and no pattern with a `!`."""
    is_in = False
    for pattern in patterns:
        if _is_in(pattern.removeprefix("!"), address):
            if pattern.startswith("!"):
                return False
            is_in = True
    return is_in


def _is_in(pattern: str, address: str) -> bool:
    if "/" not in pattern:
        return fnmatchcase(address.lower(), pattern.lower())
    try:
        return ip_address(address) in ip_network(pattern, strict=False)
    except ValueError:
        return False
