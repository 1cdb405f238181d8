"""`docs/rfc.md` against the code: what is cited there stands in the index.

The form of a citation is `RFC 5321 §4.1.1.4`, or `RFC 5321 appendix C`; further sections of the
same RFC follow after commas or "and".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
SECTION = r"(?:§\d+(?:\.\d+)*|appendix [A-Z](?:\.\d+)*)"
CITATION = re.compile(rf"RFC (\d+)((?:(?:,| and| to)? {SECTION})*)")
HEADING = re.compile(r"### ((?:RFC \d+(?:, )?)+): ")
ROW = re.compile(rf"\| ({SECTION}) \| [^|]+ \| ((?:yes|part|other|no|names)\b[^|]*) \|\Z")


class Citation(NamedTuple):
    place: str
    rfc: str
    section: str  # "" for the whole

    def __str__(self) -> str:
        return f"{self.place}: RFC {self.rfc} {self.section}".rstrip()


def citations(text: str, place: str) -> Iterator[Citation]:
    """All citations in a source, also those that go on in the next line of a comment."""
    for rfc, sections in CITATION.findall(re.sub(r"\s*\n\s*(?:# )?", " ", text)):
        for section in re.findall(SECTION, sections) or [""]:
            yield Citation(place, rfc, section)


def index(text: str) -> dict[str, set[str]]:
    """The sections that stand in the index, by RFC."""
    found: dict[str, set[str]] = {}
    current: list[set[str]] = []
    for line in text.split("\n"):
        if heading := HEADING.match(line):
            current = [found.setdefault(n, set()) for n in re.findall(r"\d+", heading[1])]
        elif row := ROW.match(line):
            for sections in current:
                sections.add(row[1])
    return found


@pytest.fixture(scope="module")
def listed() -> dict[str, set[str]]:
    return index((ROOT / "docs" / "rfc.md").read_text())


@pytest.fixture(scope="module")
def cited() -> list[Citation]:
    files = [
        path
        for folder, endings in (("pfsmtp", ("py", "pyi")), ("ext", ("pyx", "pxd")))
        for ending in endings
        for path in sorted((ROOT / folder).rglob(f"*.{ending}"))
    ]
    return [
        citation
        for path in files
        for citation in citations(path.read_text(), str(path.relative_to(ROOT)))
    ]


def test_every_citation_stands_in_the_index(
    cited: list[Citation], listed: dict[str, set[str]]
) -> None:
    missing = [
        str(citation)
        for citation in cited
        if citation.rfc not in listed
        or (citation.section and citation.section not in listed[citation.rfc])
    ]
    assert missing == []


def test_every_rfc_in_the_index_is_cited(
    cited: list[Citation], listed: dict[str, set[str]]
) -> None:
    assert sorted(listed.keys() - {citation.rfc for citation in cited}) == []


def test_every_row_has_a_section_and_a_status() -> None:
    rows = [
        line
        for line in (ROOT / "docs" / "rfc.md").read_text().partition("\n## ")[2].split("\n")
        if line.startswith("| ") and not line.startswith(("| section |", "| ---"))
    ]
    assert [row for row in rows if not ROW.match(row)] == []


def test_citations_are_found() -> None:
    text = '''
    """One (RFC 5321 §4.1, §4.2 and §5).

    Two, as RFC
    6531 §3.7.3 says; RFC 2920, RFC 5280 appendix A.1."""
    # RFC 3463 §3.2 to §3.8: three. RFC 5321
    # §7.2.
    '''
    assert [(rfc, section) for _, rfc, section in citations(text, "")] == [
        ("5321", "§4.1"),
        ("5321", "§4.2"),
        ("5321", "§5"),
        ("6531", "§3.7.3"),
        ("2920", ""),
        ("5280", "appendix A.1"),
        ("3463", "§3.2"),
        ("3463", "§3.8"),
        ("5321", "§7.2"),
    ]
