"""Every shell block of every page does what the page says, or says why it is not run."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, Block, blocks_of, name_of, prose_of
from tests.docs.session import run, service_of

LANGUAGES = ("sh", "json", "text")
_WHY_NOT = "not-run: "

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
PAGES_THAT_RUN = [page for page in PAGES if any(block.is_run for block in blocks_of(page))]


def _id(block: Block) -> str:
    return f"{name_of(block.page)}:{block.line}"


@pytest.mark.parametrize("block", BLOCKS, ids=_id)
def test_each_block_says_what_it_is(block: Block) -> None:
    """
    A block without a language could be a shell block that nobody runs.
    """
    assert block.language in LANGUAGES
    if block.language == "sh" and not block.is_run:
        assert block.mark.startswith(_WHY_NOT), "sh, or sh not-run: and the reason"
        assert len(block.mark.removeprefix(_WHY_NOT)) > 10, "the reason, in words"
        for path in re.findall(r"tests/[\w/]+\.py", block.mark):
            assert (ROOT / path).exists()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_command_hides_in_an_indented_block(page: Path) -> None:
    indented = [line for line in prose_of(page).splitlines() if line.startswith("    ")]

    assert [line for line in indented if "rtb-segments " in line or "curl " in line] == []


@pytest.mark.timeout(300)  # some twenty commands, each a process of its own
@pytest.mark.parametrize("page", PAGES_THAT_RUN, ids=name_of)
async def test_the_shell_blocks_of_a_page_run_and_answer_as_it_says(
    page: Path, tmp_path: Path
) -> None:
    blocks = blocks_of(page)
    service, ports = service_of(tmp_path)

    async with service.running():
        printed = dict(await run([block for block in blocks if block.is_run], service, ports))

    for block, answer in pairwise(blocks):
        if answer.is_answer:
            assert printed[block].replace("\r\n", "\n") == answer.text
