"""The report of a run gets its name, page and place, and is kept on this machine where the upload fails."""

import logging
import os
import re
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from disks import disk
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from pmip.config import Settings
from pmip.errors import SettingsError
from pmip.runner.report import KEPT_REPORTS, RunReport, to_html
from pmip.store.objects import S3Storage

MODEL_ID = "20260101T000000Z"


def running(settings: Settings, folder: Path) -> RunReport:
    report = RunReport(settings, folder, MODEL_ID)
    nbformat.write(new_notebook(cells=[new_markdown_cell("# The title")]), report.path)
    return report


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_environ({"DATA_DIR": str(tmp_path)})


def test_in_the_end_it_has_its_name_and_its_page(settings: Settings, tmp_path: Path) -> None:
    """A finished report is a notebook and a page named by the model id, and every user can read them."""
    report = running(settings, tmp_path)
    assert report.path.name.startswith(f"running-{MODEL_ID}-")
    where = report.keep(MODEL_ID, has_model=True)
    assert where == str(tmp_path / f"model-training-{MODEL_ID}.html")
    assert "The title" in Path(where).read_text()
    assert {path.suffix for path in tmp_path.iterdir()} == {".html", ".ipynb"}
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in tmp_path.iterdir())


def test_two_runs_of_a_second_keep_both_reports(settings: Settings, tmp_path: Path) -> None:
    """Two runs of the same second keep both reports, because the later one takes the next free name."""
    one, other = running(settings, tmp_path), running(settings, tmp_path)
    pages = [report.keep(MODEL_ID, has_model=False) for report in (one, other)]
    assert pages == [str(tmp_path / f"model-training-20260101T00000{second}Z.html") for second in (0, 1)]


def test_half_a_report_is_none(settings: Settings, tmp_path: Path) -> None:
    """A report that was only written in part is deleted."""
    report = running(settings, tmp_path)
    report.path.write_bytes(report.path.read_bytes()[:100])
    assert report.keep(MODEL_ID, has_model=False) == ""
    assert list(tmp_path.iterdir()) == []


def test_where_the_page_finds_no_room_it_is_uploaded_all_the_same(
    bucket: S3Storage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A page that does not fit on the disk is uploaded nevertheless, and the log names the full disk."""
    settings = Settings.from_environ(
        {"ENVIRONMENT": "staging", "BUCKET": bucket.bucket, "DATA_DIR": str(tmp_path / "data")}
    )
    with disk(tmp_path / "data", "size=64k") as folder:
        assert running(settings, folder).keep(MODEL_ID, has_model=True) == bucket.url(f"models/staging/{MODEL_ID}/")
        assert {path.suffix for path in folder.iterdir()} == {".ipynb"}
    assert f"DATA_DIR={folder}: the report cannot be written there (No space left on device)" in caplog.text
    assert b"The title" in bucket.read(f"models/staging/{MODEL_ID}/model-training.html")


def test_an_upload_that_fails_leaves_it_on_this_machine(
    s3: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A report whose upload fails stays on this machine, and a warning gives the reason."""
    settings = Settings.from_environ(
        {"ENVIRONMENT": "staging", "BUCKET": "pmip-no-such-bucket", "DATA_DIR": str(tmp_path)}
    )
    with caplog.at_level(logging.WARNING):
        where = running(settings, tmp_path).keep(MODEL_ID, has_model=False)
    assert "The title" in Path(where).read_text()
    assert "the report was not uploaded: s3://pmip-no-such-bucket" in caplog.text


def test_a_folder_that_cannot_be_written_is_named(settings: Settings, tmp_path: Path) -> None:
    """A folder that cannot be written is an error that names it before the run begins."""
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"^DATA_DIR=.*/file: the report cannot be written there \(File exists\)$"):
        RunReport(replace(settings, data_dir=tmp_path / "file"), tmp_path / "file", MODEL_ID)


def test_the_newest_reports_stay_in_the_folder(settings: Settings, tmp_path: Path) -> None:
    """The newest reports are kept; older ones and the old remains of killed runs are deleted, but nothing else is."""
    for age in range(KEPT_REPORTS + 2):
        for suffix in (".ipynb", ".html"):
            path = tmp_path / f"model-training-of-age-{age:02}{suffix}"
            path.touch()
            os.utime(path, (10**9 - age, 10**9 - age))
    for name in ("model.pkl", "running-old.ipynb"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    other = running(settings, tmp_path)
    running(settings, tmp_path).keep(MODEL_ID, has_model=True)
    kept = {f"model-training-of-age-{age:02}" for age in range(KEPT_REPORTS - 1)} | {f"model-training-{MODEL_ID}"}
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {name + suffix for name in kept for suffix in (".ipynb", ".html")} | {"model.pkl", other.path.name}


@pytest.fixture
def page(tmp_path: Path) -> str:
    bar = new_output("stream", name="stderr", text="search:   0%|  | 0/2\rsearch: 100%|██| 2/2")
    script = new_output("display_data", data={"text/plain": "<script>alert(1)</script>"})
    plot = new_output("display_data", data={"image/png": "AAAA"}, metadata={"image/png": {"alt": 'caught "1" & <2>'}})
    cells = [new_markdown_cell("# The title"), new_code_cell("answer = 6 * 7", outputs=[bar, script, plot])]
    nbformat.write(new_notebook(cells=cells), tmp_path / "report.ipynb")
    return to_html(tmp_path / "report.ipynb")


def test_the_code_is_folded_but_at_hand(page: str) -> None:
    """The page has the code of each cell in a <details> element that is closed at first."""
    [folded] = re.findall(r'<details class="code"><summary>code</summary>(.*?)</details>', page, re.DOTALL)
    assert "answer" in folded
    assert "The title" not in folded
    assert "search:" not in folded


def test_a_progress_bar_shows_its_last_state(page: str) -> None:
    """The page shows a progress bar only in its last state."""
    assert "2/2" in page
    assert "0/2" not in page


def test_what_an_output_says_is_shown_and_not_run(page: str) -> None:
    """The page shows HTML of an output as text and does not run it, because a comment may contain it."""
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page


def test_a_picture_has_its_alternative_text(page: str) -> None:
    """Each picture of the page has the alternative text of its plot, which a screen reader reads."""
    [image] = re.findall(r"<img [^>]*>", page)
    assert 'src="data:image/png;base64,AAAA"' in image
    assert "caught &quot;1&quot; &amp; &lt;2&gt;" in image or 'caught "1" &amp; &lt;2&gt;' in image
