from pathlib import Path

import pytest

from segments.cli.import_file import Subject, read_rows
from segments.model.account import AccountKind


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(
            "kind,id,name\nshop,a,A\n", "line 2, column kind: not one of agency,", id="kind"
        ),
        pytest.param("kind,id,name\n\nagency,,A\n", "line 3, column id: empty", id="empty"),
        pytest.param("id,kind\na,agency\n", "line 1, column name: missing", id="no column"),
        pytest.param(
            "kind,id,name,colour\nagency,a,A,red\n", "line 1, column colour: unknown", id="unknown"
        ),
        pytest.param("kind,id,id,name\n", "line 1, column id: named twice", id="twice"),
        pytest.param(
            "kind,id,name\nagency,a\n", "line 2: 2 cells, where the header has 3", id="cells"
        ),
        pytest.param(
            "who\nme\n", "line 1: columns of no table to import (accounts:", id="no table"
        ),
        pytest.param("", "line 1: no header", id="nothing"),
        pytest.param(
            'kind,id,name\nagency,a,"A\nB"\nagency,b,"B\n', "line 4: no CSV", id="an open quote"
        ),
        pytest.param(
            "kind;id;name;segtax\nagency;a;A;-1\n",
            "line 2, column segtax: not a positive whole number",
            id="semicolons",
        ),
        pytest.param(
            "username,partner,admin\nann,a,maybe\n",
            "line 2, column admin: neither yes nor no",
            id="yes",
        ),
    ],
)
def test_fault_is_named_with_its_line_and_column(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "a.csv"
    file.write_text(content, encoding="utf-8")

    _, [fault] = read_rows(file)

    assert str(fault).startswith(f"{file}, {said}")


def test_every_fault_is_found_and_every_other_row_read(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("kind,id,name\nx,,A\nagency,b,B\nagency,c\n", encoding="utf-8")

    rows, faults = read_rows(file)

    assert [(each.line, each.column) for each in faults] == [(2, "kind"), (2, "id"), (4, None)]
    assert [(row.line, row.subject) for row in rows] == [(3, Subject.ACCOUNTS)]
    assert rows[0].cells == {
        "kind": AccountKind.AGENCY, "id": "b", "name": "B", "parent": None, "segtax": None
    }  # fmt: skip


def test_spreadsheets_mark_blanks_and_blank_lines_are_taken(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes("\ufeffname;username ;partner\r\n;;\r\n".encode())
    header_alone = read_rows(file)
    file.write_bytes("\ufeffusername ;partner\r\n;\r\n ann; shop\r\n".encode())

    [row], faults = read_rows(file)

    assert str(header_alone[1][0]).startswith(f"{file}, line 1, column name: unknown")
    assert faults == []
    assert (row.line, row.cells["username"], row.cells["partner"]) == (3, "ann", "shop")


def test_file_that_is_not_utf_8_is_refused_at_its_line(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes("kind,id,name\nagency,a,Böse\n".encode("latin-1"))

    assert str(read_rows(file)[1][0]).startswith(f"{file}, line 2: not UTF-8")
