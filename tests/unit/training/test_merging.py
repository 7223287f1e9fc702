"""Adding files makes a new day of training data with all old and new comments, and changes no earlier day."""

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from pmip.errors import AlreadyExistsError, TrainingDataError
from pmip.store.objects import Storage
from pmip.training.comments import read_comments
from pmip.training.data import pull, seed
from pmip.training.merging import add

ROWS = "".join(f"comment {number},{number % 2}\n" for number in range(20))


def saved(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


@pytest.fixture
def day(storage: Storage, tmp_path: Path) -> Storage:
    """Return a store that holds one day of training data, with one file."""
    seed(storage, [saved(tmp_path, "x.csv", "CONTENT,CLASS\n" + ROWS)], "20260101")
    return storage


def newest(storage: Storage, folder: Path) -> pd.DataFrame:
    return read_comments(pull(storage, folder / "pulled").files)


def added(storage: Storage, *paths: Path, day: str | None = "20260102", **options: bool) -> list[str]:
    return add(storage, paths, day, **({"newer_wins": False, "dry_run": False} | options))


def test_the_new_day_holds_the_old_and_the_new_comments(
    day: Storage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The new day has all old and new texts once; rows without a label and columns of predictions are left out."""
    caplog.set_level("INFO")
    before = day.read("training/20260101/x.csv")
    header = "\ufeffCONTENT,CLASS,source,AUTHOR,predicted_class,predicted_probability,predicted_by\n"
    rows = "'=1+1,spam,fifth,a,1,.5,v\n comment 3 ,1,fifth,b,1,.5,v\nfresh,0,fifth,c,1,.5,v\nfresh,0,fifth,d,1,.5,v\n"
    rows += "not yet,,fifth,,1,.5,v\n"
    new = saved(tmp_path, "new.csv", header + rows)
    assert added(day, new) == [day.url("training/20260102/comments.csv.gz")]
    comments = newest(day, tmp_path)
    assert list(comments.columns) == ["source_file", "source_row", "CONTENT", "CLASS", "source", "AUTHOR"]
    expected = [
        *((f"comment {number}", number % 2, "x") for number in range(20)),
        ("=1+1", 1, "fifth"),
        ("fresh", 0, "fifth"),
    ]
    assert list(comments[["CONTENT", "CLASS", "source"]].itertuples(index=False, name=None)) == expected
    assert day.read("training/20260101/x.csv") == before
    assert "with a label: 4, of which 2 repeat a text; without: 1, left out" in caplog.text
    assert caplog.text.count(f"{day.url('training/20260102/')}: 22 comments, 0 with a changed label") == 1


def test_files_of_one_name_do_not_merge_their_videos(day: Storage, tmp_path: Path) -> None:
    """A new file with an old file's name is a source of its own, but a column that names the video is believed."""
    same = saved(tmp_path, "other/x.csv", "CONTENT,CLASS\none,0\n")
    told = saved(tmp_path, "told.csv", "CONTENT,CLASS,videoId\ntwo,1,x\n")
    added(day, same, told)
    assert list(newest(day, tmp_path)["source"][-2:]) == ["x (20260102)", "x"]


def test_contradictory_labels_are_listed_and_only_the_newer_may_win(day: Storage, tmp_path: Path) -> None:
    """Contradictory labels are an error with their places, unless --newer-wins replaces the older labels."""
    new = saved(tmp_path, "new.csv", "CONTENT,CLASS\ncomment 1,0\nfresh,0\ncomment 2,1\nfresh,1\n")
    with pytest.raises(TrainingDataError) as raised:
        added(day, new)
    first = "new.csv, comment 1: 0, but x.csv, comment 2: 1; new.csv, comment 3: 1, but x.csv, comment 3: 0"
    mend = "correct the labels, or use --newer-wins to replace the older ones"
    last = f"new.csv, comment 4: 1, but new.csv, comment 2: 0; {mend}"
    assert str(raised.value) == f"the same text has two labels: {first}; {last}"
    assert list(day.prefixes("training/")) == ["20260101"]
    added(day, new, newer_wins=True)
    labels = newest(day, tmp_path).set_index("CONTENT")["CLASS"]
    assert (len(labels), labels["comment 1"], labels["comment 2"], labels["fresh"]) == (21, 0, 1, 1)


def test_a_text_that_has_both_labels_already_is_no_new_contradiction(storage: Storage, tmp_path: Path) -> None:
    """A contradiction that the newest day already holds does not stop a person who adds comments."""
    seed(storage, [saved(tmp_path, "x.csv", f"CONTENT,CLASS\n{ROWS}comment 1,0\n")], "20260101")
    added(storage, saved(tmp_path, "new.csv", "CONTENT,CLASS\ncomment 1,0\nfresh,0\n"))
    assert len(newest(storage, tmp_path)) == 22


@pytest.mark.parametrize(
    ("content", "options", "reason"),
    [
        ("CONTENT,CLASS\nfresh,1\n", {"dry_run": True}, "nothing is stored: this is a dry run"),
        ("CONTENT,CLASS\ncomment 1,1\n", {}, "nothing is stored: the files hold nothing new"),
    ],
)
def test_nothing_is_stored_without_need(
    day: Storage, tmp_path: Path, content: str, options: dict[str, bool], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A dry run stores nothing, files without anything new store nothing, and the log gives the reason."""
    caplog.set_level("INFO")
    assert added(day, saved(tmp_path, "new.csv", content), **options) == []
    assert reason in caplog.text
    assert list(day.prefixes("training/")) == ["20260101"]


def test_the_next_run_uses_the_new_day(day: Storage, tmp_path: Path) -> None:
    """The new day is today or follows the newest one, unless it is given; a day that holds data is never changed."""
    new = [saved(tmp_path, f"{number}.csv", f"CONTENT,CLASS\nfresh {number},1\n") for number in range(3)]
    assert added(day, new[0], day=None) == [day.url(f"training/{datetime.now(UTC):%Y%m%d}/comments.csv.gz")]
    added(day, new[1], day="20991231")
    assert added(day, new[2], day=None) == [day.url("training/21000101/comments.csv.gz")]
    with pytest.raises(AlreadyExistsError, match="already holds data"):
        added(day, saved(tmp_path, "y.csv", "CONTENT,CLASS\nlast,1\n"), day="20991231")
    assert len(newest(day, tmp_path)) == 23


def test_files_that_hold_no_label_or_mistakes_are_refused(day: Storage, tmp_path: Path) -> None:
    """Added files without any label, or with a mistake, are refused with their name."""
    with pytest.raises(TrainingDataError, match=r"new.csv: no comment has a label in the column CLASS"):
        added(day, saved(tmp_path, "new.csv", "CONTENT,CLASS\nfresh,\n"))
    with pytest.raises(TrainingDataError, match=r"new.csv, line 2: CLASS must be 0"):
        added(day, saved(tmp_path, "new.csv", "CONTENT,CLASS\nfresh,maybe\n"))
