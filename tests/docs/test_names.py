"""What a page names exists, and what exists is named on the page that owns it."""

import importlib
import re
import tomllib
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path

import click
import pytest

from docs.make.commands_page import ROOTS, targets, walk
from docs.make.settings_page import CLASSES
from rtb.outcome import Outcome, OutcomeHeader, Reason
from rtb.server.answer_forms import FORMS, Asked
from rtb.server.http.http11 import REFUSAL_HEADS
from rtb.server.metrics.layout import Refusal
from segments.doors.live_audience.codes import code_of
from segments.model.job import BadLineReason
from segments.model.stop_reason import StopReason
from segments.runtime.settings_errors import variables_of
from tests.docs.pages import (
    HISTORY,
    PAGES,
    ROOT,
    blocks_of,
    code_in,
    name_of,
    prose_of,
    rows_of,
    spans_of,
    text_of,
    words_of,
)
from tests.upgrade.earlier import NO_LONGER_READ

DOCS = ROOT / "docs"
BID_PATH, DELIVER, ARCHITECTURE = (
    DOCS / "bid-path.md",
    DOCS / "deliver.md",
    DOCS / "architecture.md",
)
PRESENT = tuple(page for page in PAGES if page != HISTORY)

VARIABLES = {name for _, settings in CLASSES for name in variables_of(settings)}
_VARIABLE = re.compile(r"\b(?:RTB|SEGMENTS)_[A-Z][A-Z_]*[A-Z]\b")

COMMANDS = {context.command_path: context for name, root in ROOTS for context in walk(root, name)}
_CALL = re.compile(r"(?:^|[(/]|[|;] *)(rtb-segments|python -m loadtest|make)(?= |$)([^|;&)<>#]*)")
_PLACEHOLDERS = re.compile(r"^(X|NAME|[A-Z_]+|\.\.\.)$")

_TOP = "|".join(("rtb", "segments", "loadtest", "tests", "docs", r"\.ci"))
_PATH = re.compile(rf"^(?:{_TOP})/[\w./*{{}}-]*$|^[\w.-]+\.(?:toml|lock|yaml|md)$|^Makefile$")
_MODULE = re.compile(r"^(?:rtb|segments|loadtest)(?:\.[a-zA-Z_]\w*)+$")

CODE = ("rtb", "segments", "loadtest")


@pytest.mark.parametrize("file", ["Dockerfile", "compose.yaml", "compose.postgres.yaml"])
def test_each_setting_that_a_container_is_given_exists(file: str) -> None:
    assert set(_VARIABLE.findall(text_of(ROOT / file))) - VARIABLES == set()


@pytest.mark.parametrize("page", PRESENT, ids=name_of)
def test_each_setting_that_a_page_names_exists(page: Path) -> None:
    earlier = NO_LONGER_READ if page == DOCS / "upgrade.md" else set()
    assert set(_VARIABLE.findall(text_of(page))) - VARIABLES == earlier


def test_each_setting_is_on_its_page() -> None:
    assert set(words_of(DOCS / "settings.md", "variable")) == VARIABLES


@pytest.mark.parametrize("page", PRESENT, ids=name_of)
def test_each_command_that_a_page_names_exists_with_its_options(page: Path) -> None:
    wrong = [
        call
        for line in code_in(page)
        for name, rest in _CALL.findall(line)
        if (call := f"{name} {rest}".strip()) and not _is_command(name, rest.split())
    ]

    assert wrong == []


def test_each_command_is_on_its_page() -> None:
    said = text_of(DOCS / "commands.md")

    assert [path for path in COMMANDS if f"### `{path}" not in said] == []
    assert [name for name, _ in targets(ROOT / "Makefile") if f"`make {name}`" not in said] == []


def _is_command(name: str, words: list[str]) -> bool:
    if name == "make":
        made = {target for target, _ in targets(ROOT / "Makefile")}
        return all(word in made for word in words[:1])
    command: click.Command = dict(ROOTS)[name]
    context = click.Context(command, info_name=name)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        if (below := command.get_command(context, words[0])) is None:
            return False
        command, words = below, words[1:]
    options = {option for param in command.params for option in param.opts}
    passes_on = command.context_settings.get("ignore_unknown_options", False)
    return passes_on or all(
        word.split("=")[0] in options | {"--help"} for word in words if word.startswith("--")
    )


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        pytest.param("rtb-segments key add --jwt", True, id="a command and its option"),
        pytest.param("rtb-segments key mend", False, id="no such command"),
        pytest.param("rtb-segments key add --jws", False, id="no such option"),
        pytest.param("python -m loadtest accept --url x", True, id="of the load test"),
        pytest.param("make rain", False, id="no such target"),
    ],
)
def test_command_is_told_from_what_is_none(call: str, expected: bool) -> None:
    ((name, rest),) = _CALL.findall(call)

    assert _is_command(name, rest.split()) is expected


@pytest.mark.parametrize(
    ("page", "header", "words"),
    [
        pytest.param(BID_PATH, "outcome", Outcome, id="outcomes"),
        pytest.param(BID_PATH, "reason", Reason, id="reasons"),
        pytest.param(BID_PATH, "error", Refusal, id="refusals of HTTP"),
        pytest.param(DELIVER, "reason", StopReason, id="stop reasons"),
        pytest.param(DELIVER, "reason of a bad line", BadLineReason, id="bad lines"),
    ],
)
def test_each_word_of_a_closed_list_has_one_row(
    page: Path, header: str, words: type[StrEnum]
) -> None:
    assert sorted(words_of(page, header)) == sorted(filter(None, words))


def test_each_stop_reason_has_the_code_that_partners_read() -> None:
    said = {words[0].strip("`"): int(words[1]) for words in rows_of(DELIVER, "reason")}

    assert said == {reason.value: code_of(reason) for reason in StopReason}


def test_each_refusal_of_http_has_its_status() -> None:
    said = {words[0].strip("`"): words[1] for words in rows_of(BID_PATH, "error")}

    statuses = {refusal: head.split()[1].decode() for refusal, head in REFUSAL_HEADS.items()}
    assert said == {refusal: statuses.get(refusal, "-") for refusal in Refusal}


def test_each_reason_stands_under_an_outcome() -> None:
    assert set(words_of(BID_PATH, "reason", column=1)) <= set(Outcome)


def test_each_answer_form_has_its_paths_with_and_without_a_recipient() -> None:
    said = set(words_of(BID_PATH, "path"))
    by_body = [
        path.decode()
        for path, form in FORMS[OutcomeHeader.FULL].items()
        if form.asked is not Asked.TARGETING
    ]

    assert said == {
        "GET /v2/targeting",
        *(f"POST {path}{end}" for path in by_body for end in ("", "/{recipient}")),
    }


@pytest.mark.parametrize("page", PRESENT, ids=name_of)
def test_each_path_that_a_page_names_exists(page: Path) -> None:
    lost = [
        span
        for span in spans_of(page)
        if _PATH.match(span) and "NAME" not in span and not _exists(page, span)
    ]

    assert lost == []


def _exists(page: Path, span: str) -> bool:
    return any(
        (folder / span).exists() or ("*" in span and any(folder.glob(span)))
        for folder in (ROOT, page.parent)
    )


@pytest.mark.parametrize("page", PRESENT, ids=name_of)
def test_each_module_that_a_page_names_exists(page: Path) -> None:
    assert [span for span in spans_of(page) if _MODULE.match(span) and not _is_there(span)] == []


def _is_there(dotted: str) -> bool:
    """Say whether it is a module, or what a module has."""
    module, _, attribute = dotted.rpartition(".")
    try:
        importlib.import_module(dotted)
    except ImportError:
        return bool(module) and hasattr(importlib.import_module(module), attribute)
    return True


def _folders() -> Iterator[str]:
    for package in CODE:
        for folder in (ROOT / package, *(ROOT / package).rglob("*")):
            if any(folder.glob("*.py")) or any(folder.glob("*.lua")):
                yield f"{folder.relative_to(ROOT)}/"


def _beside(folder: str, names: Iterable[str]) -> list[str]:
    """Return the names that are nothing in a folder, nor below it."""
    return [
        name
        for name in names
        if re.fullmatch(r"[a-z_0-9]+", name)
        and not any((ROOT / folder / f"{name}{end}").exists() for end in (".py", ".pyx", ""))
    ]


def test_each_folder_has_its_row_in_the_table() -> None:
    rows = [word for word in words_of(ARCHITECTURE, "folder") if word.endswith("/")]
    versions = "segments/ledger/migrations/versions/"  # part of its parent
    peers = "loadtest/bench/peers/"

    assert sorted(set(rows) - {"tests/"}) == sorted(
        folder
        for folder in _folders()
        if folder != versions and (folder == peers or not folder.startswith(peers))
    )


def test_the_floors_are_those_of_the_import_contracts() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (block,) = (each.text for each in blocks_of(ARCHITECTURE) if each.text.startswith("rtb/"))
    floors = [
        (int(number), names.strip())
        for number, names in re.findall(r"\b(\d+)  (\w+(?: \| \w+)*)", block)
    ]

    for package in ("rtb", "segments"):
        (layers,) = (
            each["layers"]
            for each in contracts["contracts"]
            if each["type"] == "layers"
            and "containers" not in each
            and each["layers"][0].startswith(f"{package}.")
        )
        for number, layer in enumerate(reversed(layers), start=1):
            assert (number, layer.replace(f"{package}.", "")) in floors


def test_each_module_that_the_table_names_is_in_its_folder() -> None:
    lost = {
        folders[0]: found
        for row in rows_of(ARCHITECTURE, "folder")
        if (folders := re.findall(r"`([^`]+/)`", row[0]))
        and (found := _beside(folders[0], re.findall(r"`([^`]+)`", row[1])))
    }

    assert lost == {}


def test_no_page_speaks_of_what_the_repository_does_not_hold() -> None:
    for page in PAGES:
        assert not re.search(r"\b(?:FIELD|DESIGN|STYLE|HOUSE)\.md", prose_of(page)), page
