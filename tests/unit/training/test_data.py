"""A run uses the newest day of training data, and nothing is uploaded that no run could use."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from conftest import ROOT, SAMPLE

from pmip.errors import AlreadyExistsError, StorageError, TrainingDataError
from pmip.store.objects import FolderStorage, S3Storage, Storage
from pmip.training.comments import describe, read_comments
from pmip.training.data import find_local, find_newest, holds_data, pull, seed

KINDS = ".csv, .tsv, .csv.gz or .zip"
SAMPLE_FOLDER = ROOT / "notebooks" / "sample-training-data"
NO_DAYS = ("20261340", "20260230", "00000101", "2026010", "20260101x", "2026-01-01", "２０２６０１０１", "latest")


def fill(storage: Storage, *keys: str, content: bytes = b"") -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: storage.write(key, content), keys))


def everything(storage: Storage) -> dict[str, bytes]:
    return {found.key: storage.read(found.key) for found in storage.objects("")}


def test_the_newest_of_more_than_a_thousand_days_wins(bucket: S3Storage) -> None:
    """The newest day with data is used, even where S3 lists its days or files in several pages of 1,000 keys."""
    days = [f"{date(2020, 1, 1) + timedelta(days=number):%Y%m%d}" for number in range(1001)]
    fill(bucket, *(f"training/{day}/x.csv" for day in days))
    fill(bucket, "training/", "training/20270101/", "training/20270102/x.csv/")
    assert find_newest(bucket)[0] == days[-1] == "20220927"
    fill(bucket, *(f"training/20260101/.{number}.csv" for number in range(1001)), "training/20260101/x.csv")
    training_data_id, objects = find_newest(bucket)
    assert (training_data_id, [found.key for found in objects]) == ("20260101", ["training/20260101/x.csv"])


def test_folders_that_are_no_days_are_ignored(storage: Storage, caplog: pytest.LogCaptureFixture) -> None:
    """A folder whose name is not a day is never used, and a warning names it."""
    fill(storage, "training/20190101/x.csv", "training/readme.csv", *(f"training/{name}/x.csv" for name in NO_DAYS))
    assert find_newest(storage)[0] == "20190101"
    named = [storage.url(f"training/{name}/") for name in sorted(NO_DAYS)]
    assert caplog.messages == [f"{name} is not named by a day (YYYYMMDD) and is ignored" for name in named]


def test_a_day_without_comment_files_is_passed_over(storage: Storage, caplog: pytest.LogCaptureFixture) -> None:
    """A newer day without comment files is skipped, and a warning names its files of other types."""
    others = ("notes.txt", ".x.csv", "__MACOSX/._x.csv", "deep/.git/x.zip")
    fill(storage, *(f"training/20260202/{name}" for name in others), "training/20260101/deep/X.CSV")
    training_data_id, objects = find_newest(storage)
    assert (training_data_id, [found.key for found in objects]) == ("20260101", ["training/20260101/deep/X.CSV"])
    where = storage.url("training/20260202/")
    left_out = f"{where}: only {KINDS} files are read; left out: notes.txt"
    assert caplog.messages == [f"{where} holds no {KINDS} file and is skipped", left_out]


@pytest.mark.parametrize("name", ["x.csv", "latest/x.csv", "20260101/x.txt", "20260101/.x.csv"])
def test_no_training_data_says_where_and_how_to_seed(storage: Storage, name: str) -> None:
    """Without training data, the error gives the address that was searched and the script that uploads data."""
    fill(storage, f"training/{name}", "models/20260101/x.csv")
    reason = f"no {KINDS} file in any of its 1 dated" if name.startswith("2026") else "no folder is named by"
    with pytest.raises(TrainingDataError, match=rf"training/: {reason}.*seed_training_data\.sh"):
        find_newest(storage)
    assert not holds_data(storage)


def test_pull_downloads_the_newest_day(storage: Storage, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A pull writes the newest day's files under data/training/<id>/, and a warning names what is left out."""
    fill(storage, "training/20251231/old.csv")
    fill(storage, *(f"training/20260101/{name}" for name in ("b.csv", "a/b.csv", "a.txt")), content=b"comments")
    found = pull(storage, tmp_path / "data")
    assert (found.training_data_id, [file.name for file in found.files]) == ("20260101", ["a/b.csv", "b.csv"])
    assert [file.origin for file in found.files] == [storage.url(f"training/20260101/{f.name}") for f in found.files]
    copies = {"training/20260101/a/b.csv": b"comments", "training/20260101/b.csv": b"comments"}
    assert everything(FolderStorage(tmp_path / "data")) == copies
    where = storage.url("training/20260101/")
    assert caplog.messages == [f"{where}: only {KINDS} files are read; left out: a.txt"]


def test_pull_respects_a_given_id(storage: Storage, tmp_path: Path) -> None:
    """A given id selects an older day; an id without data, or one that is not a day, is an error that names it."""
    fill(storage, "training/20260101/x.csv", "training/20260202/x.csv", "training/20260303/x.txt")
    assert pull(storage, tmp_path, "20260101").training_data_id == "20260101"
    assert pull(storage, tmp_path, "").training_data_id == "20260202"
    for empty in ("20260303", "20260404"):
        with pytest.raises(TrainingDataError, match=r"seed_training_data\.sh") as raised:
            pull(storage, tmp_path, empty)
        assert str(raised.value).startswith(storage.url(f"training/{empty}/ holds no {KINDS} file"))
    with pytest.raises(TrainingDataError, match="'latest' is not a calendar day"):
        pull(storage, tmp_path, "latest")


@pytest.fixture
def odd_store(s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Serve a bucket that lists any key and breaks off each download, which the local S3 server cannot do."""
    keys: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            listed = "".join(f"<Contents><Key>{key}</Key><Size>9</Size></Contents>" for key in keys)
            body = f"<ListBucketResult>{listed}</ListBucketResult>" if "list-type" in self.path else "half of it"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body) + ("list-type" not in self.path)))
            self.end_headers()
            self.wfile.write(body.encode())

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        Thread(target=server.serve_forever, args=(0.01,)).start()
        yield keys
        server.shutdown()


@pytest.mark.parametrize("name", ["../../../x.csv", "a/../../x.csv", "/x.csv", "a\\..\\..\\x.csv", "C:x.csv"])
def test_a_key_that_would_leave_the_folder_is_refused(odd_store: list[str], tmp_path: Path, name: str) -> None:
    """A key that leads out of the day's folder is refused, and nothing is written."""
    odd_store.append(f"training/20260101/{name}")
    with pytest.raises(TrainingDataError, match=r"^s3://comments/training/20260101/: '.*' points outside its folder"):
        pull(S3Storage("comments"), tmp_path / "one" / "two" / "data", "20260101")
    assert everything(FolderStorage(tmp_path)) == {}


def test_a_key_that_cannot_be_shown_is_refused(odd_store: list[str], tmp_path: Path) -> None:
    """A key with unprintable characters is refused, because it could change the terminal or forge a line of the log."""
    odd_store.append("training/20260101/x&#10;y.csv")
    with pytest.raises(
        TrainingDataError, match=r"training/20260101/: 'x\\ny.csv' has characters that cannot be printed"
    ):
        pull(S3Storage("comments"), tmp_path, "20260101")
    assert everything(FolderStorage(tmp_path)) == {}


def test_a_download_that_breaks_off_leaves_no_half_file(odd_store: list[str], tmp_path: Path) -> None:
    """A download that fails halfway leaves no file, because the next run would use half a file as training data."""
    odd_store.append("training/20260101/x.csv")
    with pytest.raises(StorageError, match=r"^s3://comments/training/20260101/x.csv: S3 did not answer"):
        pull(S3Storage("comments"), tmp_path, "20260101")
    assert everything(FolderStorage(tmp_path)) == {}


def test_find_local_returns_the_newest_day_of_this_machine(tmp_path: Path) -> None:
    """The newest local day is used, and metadata describes its files as it did when they were pulled."""
    store = FolderStorage(tmp_path / "store")
    fill(store, "training/20260101/one/x.csv", "training/20260101/two/x.csv", content=SAMPLE[0].read_bytes())
    pulled = pull(store, tmp_path / "data")
    fill(FolderStorage(tmp_path / "data"), "training/20251231/old.csv")
    found = find_local(tmp_path / "data", SAMPLE_FOLDER)
    assert found.training_data_id == pulled.training_data_id == "20260101"
    assert [file.origin for file in found.files] == [str(file.path) for file in pulled.files]
    assert describe(found.files, read_comments(found.files)) == describe(pulled.files, read_comments(pulled.files))


def test_find_local_respects_a_given_id(tmp_path: Path) -> None:
    """A given id selects a local day; an id without data, or one that is not a day, is an error that names it."""
    with pytest.raises(TrainingDataError, match=rf"training/20260101/ holds no {KINDS} file"):
        find_local(tmp_path, SAMPLE_FOLDER, "20260101")
    fill(FolderStorage(tmp_path), "training/20260101/x.csv", "training/20260202/x.csv")
    assert find_local(tmp_path, SAMPLE_FOLDER, "20260101").training_data_id == "20260101"
    with pytest.raises(TrainingDataError, match="'sample' is not a calendar day"):
        find_local(tmp_path, SAMPLE_FOLDER, "sample")


def test_find_local_falls_back_on_the_sample(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without any training data, a first run uses the sample and writes this to the log."""
    fill(FolderStorage(tmp_path), "training/.DS_Store", "training/20260101/.gitkeep")
    found = find_local(tmp_path, SAMPLE_FOLDER)
    assert (found.training_data_id, [file.path for file in found.files]) == ("sample", SAMPLE)
    assert caplog.messages == [f"no training data in {tmp_path}/training: using the sample"]


@pytest.mark.parametrize("name", ["20260101/comments.xlsx", "mine/x.csv", "x.csv"])
def test_find_local_never_takes_the_sample_for_data_that_it_cannot_find(tmp_path: Path, name: str) -> None:
    """A training file with a wrong name or place is an error, and the sample is not used instead of it."""
    fill(FolderStorage(tmp_path), f"training/{name}")
    with pytest.raises(TrainingDataError, match=r"training/: no .*seed_training_data\.sh"):
        find_local(tmp_path, SAMPLE_FOLDER)


def test_seed_uploads_a_new_day(storage: Storage) -> None:
    """A seed uploads the files unchanged, returns their addresses and changes no other object."""
    fill(storage, "training/20251231/x.csv", "training/20260101/.hidden", content=b"other")
    before = everything(storage)
    addresses = seed(storage, SAMPLE, "20260101")
    keys = [f"training/20260101/{path.name}" for path in SAMPLE]
    assert addresses == [storage.url(key) for key in keys]
    uploaded = {key: path.read_bytes() for key, path in zip(keys, SAMPLE, strict=True)}
    assert everything(storage) == before | uploaded
    assert holds_data(storage)


def test_a_seed_older_than_the_newest_day_warns(storage: Storage, caplog: pytest.LogCaptureFixture) -> None:
    """A seed older than the newest day causes a warning with the setting that makes a run train on it."""
    seed(storage, SAMPLE[:1], "20260101")
    assert not caplog.records
    seed(storage, SAMPLE[:1], "20251231")
    assert (
        f"the next run does not train on {storage.url('training/20251231/')}, because 20260101 is newer" in caplog.text
    )
    assert "TRAINING_DATA_ID=20251231" in caplog.text


@pytest.mark.parametrize("day", ["", "20260101\n", *NO_DAYS])
def test_seed_refuses_what_is_no_day(tmp_path: Path, day: str) -> None:
    """A seed whose id is not a day is refused, because every run would ignore its folder."""
    with pytest.raises(TrainingDataError, match="is not a calendar day, written as YYYYMMDD"):
        seed(FolderStorage(tmp_path), SAMPLE, day)
    assert everything(FolderStorage(tmp_path)) == {}


def test_seed_refuses_a_day_that_holds_data(storage: Storage) -> None:
    """A seed never changes a day that holds data, not even by adding files with other names."""
    seed(storage, SAMPLE[:1], "20260101")
    before = everything(storage)
    for files in (SAMPLE[:1], SAMPLE[1:]):
        with pytest.raises(AlreadyExistsError, match=r"training/20260101/ already holds data; give another day"):
            seed(storage, files, "20260101")
    assert everything(storage) == before


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["good.csv", "missing.csv"], "missing.csv: there is no such file"),
        *((["good.csv", bad], f"{bad}: not a {KINDS} file") for bad in ("good.txt", ".hidden.csv")),
        (["good.csv", "other/good.csv"], "two of the files have the same name"),
        (["good.csv", "bad.csv"], "bad.csv, line 2: CLASS must be"),
        (["good.csv", "bad.zip"], "bad.zip: not a readable zip"),
        (["good.csv", "day 10:30.csv"], r"local/: 'day 10:30.csv' points outside its folder; use a name without"),
        (["day 10.30\u202fAM.csv"], r"local/: 'day 10.30\\u202fAM.csv' has characters that cannot be printed; give it"),
    ],
)
def test_seed_refuses_files_that_no_run_could_use(tmp_path: Path, names: list[str], reason: str) -> None:
    """If a run could not use one of the files, the error gives the reason and no file is uploaded."""
    local, store = FolderStorage(tmp_path / "local"), FolderStorage(tmp_path / "store")
    names_of_good = ("good.csv", "other/good.csv", "good.txt", ".hidden.csv", "day 10:30.csv", "day 10.30\u202fAM.csv")
    fill(local, *names_of_good, content=SAMPLE[0].read_bytes())
    fill(local, "bad.csv", "bad.zip", content=b"CONTENT,CLASS\nx,2\n")
    with pytest.raises(TrainingDataError, match=reason):
        seed(store, [local.root / name for name in names], "20260101")
    assert everything(store) == {}
