"""
The parts of a bid request that enrichment must not touch.

They make requests realistic in size and shape, with oddities of legal JSON and of exchanges'
traffic: numbers with their spelling (`1.10`, `1e3`, thirty digits), strings with escapes.
"""

from random import Random

import msgspec


def spelled(text: str) -> msgspec.Raw:
    """Return a JSON value with exactly this spelling."""
    return msgspec.Raw(text.encode())


_FLOORS = tuple(
    map(spelled, ("1.10", "0.50", "1e3", "2.5E-1", "0", "-0.0", "3", "0.1e1", "12.345678"))
)
_SIZES = ((300, 250), (728, 90), (320, 50), (970, 250), (160, 600))
_WORDS = ("harbor", "maple", "quartz", "ember", "willow", "cobalt", "saffron", "tundra")

_TITLES = (
    spelled('"Caf\\u00e9 \\/ Bar \\"Zum L\\u00f6wen\\" \\ud83c\\udf7a"'),
    spelled('"}],\\"user\\":{\\"data\\":[{\\"id\\":\\"9001\\"}]}"'),
    spelled('"tab\\tline\\nnull\\u0000end"'),
    "新聞 – Nachrichten für alle 🍺",
    "plain words",
    "",
)

_ODDITIES: tuple[tuple[str, object], ...] = (
    ("trace", spelled("123456789012345678901234567890")),
    ("ratio", spelled("1.10")),
    ("budget", spelled("1E+400")),
    ("empty", {}),
    ("nothing", None),
    ("nested", [[[[[[{"deep": [spelled("1e0"), True, None, []]}]]]]]]),
    ("user", {"data": [{"id": "9001", "segment": [{"id": "1"}]}]}),
    ("es\u0007cape", "\u2028\u2029"),
    ("", "an empty key"),
)

# Equally long, to fill a request to its size.
_BLOCKED_DOMAINS = tuple(f"advertiser-{i:04d}.example" for i in range(3_000))
_BYTES_PER_DOMAIN = len(_BLOCKED_DOMAINS[0]) + 3


def imps(rng: Random) -> list[object]:
    """Return 3.2.4 Imp objects, mostly one."""
    return [_imp(rng, n) for n in range(rng.choice((1, 1, 1, 2, 3)))]


def site(rng: Random) -> dict[str, object]:
    """Return a 3.2.13 Site."""
    word = rng.choice(_WORDS)
    return {
        "id": str(rng.randrange(10**6)),
        "name": rng.choice(_TITLES),
        "domain": f"{word}.example",
        "cat": ["IAB1", "IAB12-2"],
        "page": f"https://{word}.example/{rng.randrange(10**9)}?utm_source=a&b=%20",
        "publisher": {"id": f"pub-{rng.randrange(50)}", "name": word},
    }


def app(rng: Random) -> dict[str, object]:
    """Return a 3.2.14 App."""
    word = rng.choice(_WORDS)
    return {
        "id": str(rng.randrange(10**6)),
        "name": rng.choice(_TITLES),
        "bundle": f"com.example.{word}",
        "storeurl": f"https://store.example/app/{word}",
        "ver": "7.12.1",
        "publisher": {"id": f"pub-{rng.randrange(50)}"},
    }


def device(rng: Random) -> dict[str, object]:
    """Return a 3.2.18 Device without data about the person."""
    octets = rng.randrange(2**16)
    return {
        "ua": "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko)"
        f" Chrome/{rng.randrange(120, 145)}.0.0.0 Mobile Safari/537.36",
        "ip": f"192.0.2.{octets & 0xFF}",
        "ipv6": f"2001:db8::{octets:x}",
        "language": "en",
        "devicetype": rng.choice((1, 2, 4, 5)),
        "geo": {"lat": spelled("52.520"), "lon": spelled("13.40500"), "country": "DEU", "type": 2},
        "w": 1080,
        "h": 2400,
        "pxratio": spelled("2.0"),
    }


def schain(rng: Random) -> dict[str, object]:
    """Return a 3.2.25 SupplyChain of up to four nodes."""
    nodes: list[object] = [
        {"asi": f"{rng.choice(_WORDS)}-ssp.example", "sid": str(rng.randrange(10**5)), "hp": 1}
        for _ in range(rng.randrange(1, 5))
    ]
    return {"ver": "1.0", "complete": 1, "nodes": nodes}


def oddities(rng: Random) -> dict[str, object]:
    """Return an `ext` of legal but unusual values."""
    return dict(rng.sample(_ODDITIES, rng.randrange(1, len(_ODDITIES))))


def blocked_domains(rng: Random, size_bytes: int) -> list[object]:
    """Return a `badv` of up to this many bytes."""
    count = max(0, size_bytes // _BYTES_PER_DOMAIN)
    start = rng.randrange(len(_BLOCKED_DOMAINS) - count)
    return list(_BLOCKED_DOMAINS[start : start + count])


def data_of_others(rng: Random) -> list[object]:
    """
    Return 3.2.21 Data objects of other providers.

    A `Data` among them has no `segment`, as in the example of section 6.2.2.
    """
    choices: tuple[object, ...] = (
        {"id": "6", "name": "Data Provider 1", "value": "not a segment"},
        {
            "id": "77",
            "name": "other-dmp.example",
            "segment": [{"id": "12341318394918", "name": "auto intenders", "value": "0.50"}],
            "ext": {"segtax": 4, "score": spelled("0.90")},
        },
        {"name": "nobody.example", "segment": []},
        {},
    )
    return rng.sample(choices, rng.choice((0, 0, 1, 1, 2, 3)))


def _imp(rng: Random, n: int) -> dict[str, object]:
    w, h = rng.choice(_SIZES)
    imp: dict[str, object] = {
        "id": rng.choice((str(n + 1), "")),
        "tagid": f"slot-{rng.randrange(1000)}",
        "bidfloor": rng.choice(_FLOORS),
        "bidfloorcur": "USD",
        "secure": 1,
    }
    if rng.random() < 0.7:
        imp["banner"] = rng.choice(
            ({}, {"w": w, "h": h}, {"format": [{"w": w, "h": h}, {"w": h, "h": w}], "pos": 1})
        )
    else:
        imp["video"] = {"mimes": ["video/mp4"], "minduration": 5, "maxduration": 30, "w": w, "h": h}
    if rng.random() < 0.3:
        imp["pmp"] = {
            "private_auction": 0,
            "deals": [{"id": f"deal-{rng.randrange(100)}", "bidfloor": rng.choice(_FLOORS)}],
        }
    return imp
