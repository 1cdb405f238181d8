"""docs/security.md says of the kernel what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from pfsmtp.process import landlock

TEXT = (Path(__file__).parents[1] / "docs" / "security.md").read_text(encoding="utf-8")


def test_what_a_kernel_lacks_is_what_the_table_says() -> None:
    rows = re.findall(r"^\| (\d)[^|]*\|[^|]*\| (?:also )?([*`a-z]+) \|", TEXT, re.MULTILINE)
    lacking: list[str] = []
    for abi, what in rows:
        lacking += re.findall(r"`(.+)`", what)
        assert sorted(landlock.lacking(int(abi))) == sorted(lacking)
    assert [int(abi) for abi, _ in rows] == [6, 5, 4, 3, 2, 0]


def test_links_lead_to_headings_that_are_there() -> None:
    links = re.findall(r"\]\((\w+\.md)(?:#([\w-]+))?\)", TEXT)
    assert links
    for file, anchor in links:
        text = (Path(__file__).parents[1] / "docs" / file).read_text(encoding="utf-8")
        headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        anchors = [re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings]
        assert not anchor or anchor in anchors
