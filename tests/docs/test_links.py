"""Every link of every page leads somewhere, and every page is found from the README."""

from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, anchors_of, links_of, name_of, text_of

README = ROOT / "README.md"
README_LINES = 150
"""What a stranger reads in ten minutes."""


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_each_link_leads_to_a_file_and_a_heading_that_exist(page: Path) -> None:
    lost = []
    for link in links_of(page):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            lost.append(link)

    assert lost == []


def test_each_page_is_found_from_the_readme() -> None:
    found, to_read = {README}, [README]
    while to_read:
        page = to_read.pop()
        for link in links_of(page):
            target = (page.parent / link.partition("#")[0]).resolve()
            if target.suffix == ".md" and target.exists() and target not in found:
                found.add(target)
                to_read.append(target)

    assert sorted(map(name_of, set(PAGES) - found)) == []


def test_the_readme_is_short() -> None:
    assert len(text_of(README).splitlines()) <= README_LINES


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_each_page_opens_with_its_title(page: Path) -> None:
    assert text_of(page).startswith("# ")
