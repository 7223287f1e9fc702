"""The report as a page: readable without the code, which is at hand, and alone on the machine that shows it."""

import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from pmip.training.report import to_html


@pytest.fixture
def page(tmp_path: Path) -> str:
    """Render a small executed notebook."""
    bar = new_output("stream", name="stderr", text="search:   0%|  | 0/2\rsearch: 100%|██| 2/2")
    script = new_output("display_data", data={"text/plain": "<script>alert(1)</script>"})
    cells = [new_markdown_cell("# The title"), new_code_cell("answer = 6 * 7", outputs=[bar, script])]
    nbformat.write(new_notebook(cells=cells), tmp_path / "report.ipynb")
    return to_html(tmp_path / "report.ipynb")


def test_the_code_is_folded_but_at_hand(page: str) -> None:
    """Each cell's code stands in a closed <details>."""
    [folded] = re.findall(r'<details class="code"><summary>code</summary>(.*?)</details>', page, re.DOTALL)
    assert "answer" in folded
    assert "The title" not in folded
    assert "search:" not in folded


def test_a_progress_bar_shows_its_last_state(page: str) -> None:
    """The states before it were overwritten."""
    assert "2/2" in page
    assert "0/2" not in page


def test_nothing_comes_from_another_host(page: str) -> None:
    """No script, style sheet or image has an address."""
    assert not re.findall(r"""(?:src|href)=["']https?://|@import|import\(["']https?:|url\(["']?https?:""", page)


def test_what_an_output_says_is_shown_and_not_run(page: str) -> None:
    """A comment's text is hostile input."""
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page
