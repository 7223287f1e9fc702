"""The command `score` gives the classes and probabilities of the API, and reports each mistake in one line."""

import gzip
import io
import os
import pickle
import re
import signal
import subprocess
import sys
import termios
import zipfile
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from conftest import SAMPLE

from pmip.model import verification
from pmip.model.artifact import Artifact
from pmip.store.objects import S3Storage
from pmip.store.versions import LOCAL, LocalModel, ModelStore
from pmip.training.comments import read_comments
from pmip.training.data import find_local, local_files
from pmip.training.evaluation import groups
from pmip.training.tables import PREDICTED, unescaped

PANDAS = {"dtype": str, "keep_default_na": False}  # reads each cell as text


def score(folder: Path, *words: object, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command in this folder, with a data folder there."""
    command = [sys.executable, "-P", "-m", "pmip", "score", *map(str, words)]
    settings = os.environ | {"DATA_DIR": str(folder / "data"), "ENVIRONMENT": "dev"} | environ
    return subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def folder(artifact: Artifact, tmp_path: Path) -> Path:
    LocalModel(tmp_path / "data").save(artifact)
    (tmp_path / "x.csv").write_text("id;Text\n007;subscribe to me\n,\n8;\n".replace(",", ";"))
    return tmp_path


@pytest.mark.parametrize("repeated", [1, 100], ids=["one process", "several processes"])
def test_the_answers_are_those_of_the_api(folder: Path, artifact: Artifact, repeated: int) -> None:
    """Each row keeps its columns and place and gets the API's class and probability, in one process or several."""
    table = pd.concat([pd.read_csv(SAMPLE[0], **PANDAS)] * repeated)
    table.to_csv(folder / "sample.csv", index=False)
    outcome = score(folder, "sample.csv")
    assert outcome.returncode == 0
    assert re.fullmatch(r"(score started\nscore: [\d.]+ s\n)?", outcome.stderr)
    assert bool(outcome.stderr) == (repeated > 1)
    scored = pd.read_csv(io.StringIO(outcome.stdout, newline=""), **PANDAS)
    comments, scorer = table["CONTENT"].tolist(), verification.load(artifact, LOCAL, "dev")
    assert scored["predicted_class"].astype(int).tolist() == scorer.classes(comments)
    probabilities = scored["predicted_probability"].astype(float).tolist()
    assert probabilities == [both[1] for both in scorer.probabilities(comments)]
    assert set(scored["predicted_by"]) == {"20260101T000000Z"}
    read = scored[table.columns].map(unescaped)
    assert read.to_numpy().tolist() == table.to_numpy().tolist()


def test_no_cell_is_a_formula_or_moves_a_cursor(folder: Path) -> None:
    """A spreadsheet or terminal runs no formula or control character of the output, and numbers stay numbers."""
    cells = ["=1+1", "@SUM(A1)", "+x", "-2+3", "\t=1", "'=1", "-5", "+1.5", "a\x1b[2Jb\x07\x9b", "two\nlines\ttab"]
    pd.DataFrame({"CONTENT": cells}).to_csv(folder / "x.csv", index=False)
    scored = pd.read_csv(io.StringIO(score(folder, "x.csv").stdout, newline=""), **PANDAS)["CONTENT"].tolist()
    told = ["'=1+1", "'@SUM(A1)", "'+x", "'-2+3", "'\t=1", "''=1", "-5", "+1.5", "a\ufffd[2Jb\ufffd\ufffd", cells[-1]]
    assert scored == told
    assert [unescaped(cell) for cell in scored[:8]] == cells[:8]


def test_comments_to_label_are_those_nearest_to_the_threshold(folder: Path, artifact: Artifact) -> None:
    """The comments to label are unlabelled ones near the threshold, nearest first and without near-duplicates."""
    table = pd.concat([pd.read_csv(path, **PANDAS) for path in SAMPLE])
    table["CLASS"] = ["" if number % 3 else "1" for number in range(len(table))]
    table.rename(columns={"CONTENT": "Text"}).to_csv(folder / "fifth.csv", index=False)
    outcome = score(folder, "fifth.csv", "--column", "Text", "--for-labelling", "20", "--output", "new.csv")
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, "", "")
    assert (folder / "new.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    chosen = pd.read_csv(folder / "new.csv", encoding="utf-8-sig", **PANDAS)
    assert list(chosen) == ["CONTENT", "CLASS", "source", "COMMENT_ID", "AUTHOR", "DATE", *PREDICTED]
    assert (len(chosen), set(chosen["CLASS"]), set(chosen["source"])) == (20, {""}, {"fifth"})
    assert len(set(groups(chosen["CONTENT"]))) == 20
    unlabelled = table[table["CLASS"] == ""]["CONTENT"].tolist()
    distances = sorted(abs(both - 0.5) for both in verification.load(artifact, LOCAL, "dev").spam(unlabelled))
    found = (chosen["predicted_probability"].astype(float) - 0.5).abs().tolist()
    assert found == sorted(found)
    assert found[0] == distances[0]
    assert found[-1] <= distances[60]


def test_a_folder_is_scored_file_by_file_here_and_in_s3(folder: Path, bucket: S3Storage) -> None:
    """A folder here or in S3 is scored file by file; an array job's child scores one and refuses a changed folder."""
    for name in ("a.csv", "deep/b.csv.gz", "c.tsv", "notes.txt"):
        content = b"CONTENT\nsubscribe to me\n"
        bucket.write(f"scoring/{name}", gzip.compress(content) if name.endswith(".gz") else content)
    places = [f"s3://{bucket.bucket}/scoring/", "--output", f"s3://{bucket.bucket}/scored/"]
    child = {"AWS_BATCH_JOB_ARRAY_INDEX": "2", "AWS_BATCH_JOB_ARRAY_SIZE": "3"}
    assert score(folder, *places, **child).returncode == 0
    assert [found.key for found in bucket.objects("scored/")] == ["scored/deep/b.csv.gz.csv"]
    changed = score(folder, *places, **child | {"AWS_BATCH_JOB_ARRAY_SIZE": "4"})
    told = "pmip: the folder holds 3 files now, but 4 when the job was submitted; submit it again\n"
    assert (changed.returncode, changed.stderr) == (1, told)
    assert score(folder, *places).returncode == 0
    assert [found.key for found in bucket.objects("scored/")] == [
        *("scored/a.csv", "scored/c.tsv.csv", "scored/deep/b.csv.gz.csv")
    ]
    (folder / "in").mkdir()
    (folder / "in" / "a.csv").write_bytes(bucket.read("scoring/a.csv"))
    assert score(folder, "in", "--output", "out").returncode == 0
    assert (folder / "out" / "a.csv").read_bytes() == bucket.read("scored/a.csv")


def test_one_core_several_and_a_cluster_write_the_same_bytes(folder: Path) -> None:
    """One core, two cores and a Dask cluster write the same bytes."""
    distributed = pytest.importorskip("distributed")
    rows = [f"{text},{number}" for number, text in enumerate(["subscribe to me", "lovely song", "=free"] * 4000)]
    (folder / "many.csv").write_text("\n".join(["CONTENT,id", *rows]))
    outcomes = {}
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        ways = {"one": {"LOKY_MAX_CPU_COUNT": "1"}, "two": {"LOKY_MAX_CPU_COUNT": "2"}}
        for name, settings in (ways | {"cluster": {"DASK_SCHEDULER": cluster.scheduler_address}}).items():
            outcome = score(folder, "many.csv", "--output", f"{name}.csv", **settings)
            assert outcome.returncode == 0, outcome.stderr
            outcomes[name] = (folder / f"{name}.csv").read_bytes()
    assert len(set(outcomes.values())) == 1
    assert outcomes["one"].count(b"\n") == 12_001


def test_an_interrupted_run_leaves_nothing(folder: Path) -> None:
    """A run that is stopped by SIGTERM ends with the signal's status, and leaves no partial or hidden file."""
    (folder / "many.csv").write_text("CONTENT\n" + "subscribe to my channel\n" * 200_000)
    command = [sys.executable, "-P", "-m", "pmip", "score", "many.csv", "--output", "out/many.csv"]
    settings = os.environ | {"DATA_DIR": str(folder / "data"), "ENVIRONMENT": "dev", "TMPDIR": str(folder)}
    with subprocess.Popen(command, cwd=folder, env=settings, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr
        assert run.stderr.readline() == "score started\n"
        run.send_signal(signal.SIGTERM)
        told = run.stderr.read()
    assert (run.returncode, told) == (143, "pmip: stopped by SIGTERM before the end\n")
    assert sorted(path.name for path in folder.iterdir()) == ["data", "many.csv", "x.csv"]


def test_files_of_any_shape_are_scored_together(folder: Path) -> None:
    """Files of several types are scored together without labels, also an empty comment, and `file` names the source."""
    with zipfile.ZipFile(folder / "y.zip", "w") as archive:
        archive.writestr("z.tsv", "text\tid\ncall me on my number\t9\n")
    outcome = score(folder, "x.csv", "y.zip", "--column", "Text", "--output", folder / "new" / "scored.csv")
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, "", "")
    scored = pd.read_csv(folder / "new" / "scored.csv", **PANDAS)
    assert list(scored.columns) == ["id", "Text", "file", *PREDICTED]
    expected = [["007", "subscribe to me", "x.csv"], ["8", "", "x.csv"], ["9", "call me on my number", "y.zip/z.tsv"]]
    assert scored[["id", "Text", "file"]].to_numpy().tolist() == expected
    assert all(0 < float(probability) < 1 for probability in scored["predicted_probability"])


def test_the_newest_version_or_a_given_one_scores(folder: Path, bucket: S3Storage, artifact: Artifact) -> None:
    """`--model-id` chooses the version, otherwise the newest is used; an unsafe one is refused, a missing one named."""
    store, settings = ModelStore(bucket, "staging"), {"ENVIRONMENT": "staging", "BUCKET": bucket.bucket}
    older = store.publish(artifact).metadata
    bucket.write("models/staging/20270101/model.pkl", pickle.dumps(print))
    given = score(folder, "x.csv", "--column", "Text", "--model-id", older.model_id if older else "", **settings)
    assert given.stdout == score(folder, "x.csv", "--column", "Text").stdout
    newest = score(folder, "x.csv", "--column", "Text", **settings)
    assert (newest.returncode, newest.stdout, newest.stderr.count("\n")) == (1, "", 1)
    missing = score(folder, "x.csv", "--model-id", "20260909", **settings)
    assert missing.stderr.startswith(f"pmip: s3://{bucket.bucket}/models/staging/20260909/ holds no model.pkl")


@pytest.mark.parametrize(
    ("words", "status", "reason"),
    [
        (["x.csv"], 1, "x.csv, line 1: no column CONTENT; use --column to name the column of the texts"),
        (["x.csv", "--column", "Text", "--model-id", "20260101"], 2, "--model-id requires ENVIRONMENT=staging or prod"),
        (["y.csv"], 1, "y.csv: there is no such file"),
        (["data/model.pkl"], 1, "data/model.pkl: not a .csv, .tsv, .csv.gz or .zip file"),
        (["scored.csv"], 1, "scored.csv: has a column predicted_class, which scoring adds; rename it"),
        (
            ["bad.csv"],
            1,
            "bad.csv, line 3: 2 fields where the header has 1; is a quote or a comma missing? (and 1 more rows)",
        ),
        (["data"], 2, "a folder is scored alone, into the folder --output, and without --for-labelling"),
        (["data/", "--output", "out"], 1, "data/: holds no .csv, .tsv, .csv.gz or .zip file"),
        (["s3://nowhere-x/x.txt"], 1, "s3://nowhere-x/x.txt: not a .csv, .tsv, .csv.gz or .zip file"),
        (["x.csv", "--column", "Text", "--output", "data"], 1, "./data: Is a directory"),
    ],
)
def test_a_mistake_is_one_line(folder: Path, words: list[str], status: int, reason: str) -> None:
    """A mistake is reported in one line that says what is wrong and where, and nothing is on stdout."""
    (folder / "scored.csv").write_text("CONTENT,predicted_class\nx,1\n")
    (folder / "bad.csv").write_text("CONTENT\nx\nx,1\ny,1\n")
    outcome = score(folder, *words)
    assert (outcome.returncode, outcome.stdout, outcome.stderr.count("\n")) == (status, "", 1)
    assert outcome.stderr.startswith(f"pmip: {reason}")


@pytest.mark.parametrize("content", [b"no model", b"cos\nsystem\n(S'touch marker'\ntR.", None])
def test_a_model_that_must_not_be_used_is_refused(folder: Path, content: bytes | None) -> None:
    """A damaged, a malicious and a missing model are each refused in one line, and no pickle is run."""
    LocalModel(folder / "data").save(Artifact(content or b"", None))
    if content is None:
        (folder / "data" / "model.pkl").unlink()
    outcome = score(folder, "x.csv", "--column", "Text")
    assert (outcome.returncode, outcome.stdout, outcome.stderr.count("\n")) == (1, "", 1)
    assert sorted(path.name for path in folder.iterdir()) == ["data", "x.csv"]


def test_a_terminal_sees_how_far_it_is(folder: Path) -> None:
    """A user at a terminal sees a progress bar on stderr, and stdout has the same answers as without it."""
    terminal, end = os.openpty()
    termios.tcsetwinsize(end, (24, 80))
    command = [sys.executable, "-P", "-m", "pmip", "score", "x.csv", "--column", "Text"]
    settings = os.environ | {"DATA_DIR": "data", "ENVIRONMENT": "dev"}
    outcome = subprocess.run(
        command, cwd=folder, env=settings, stdout=subprocess.PIPE, stderr=end, text=True, timeout=120, check=False
    )
    os.close(end)
    shown = b""
    with suppress(OSError), os.fdopen(terminal, "rb", buffering=0) as screen:  # Linux ends it by an error
        while piece := screen.read(2**16):
            shown += piece
    assert b"score: 100%" in shown
    assert outcome.stdout == score(folder, "x.csv", "--column", "Text").stdout


def test_labelled_comments_come_into_the_next_day(folder: Path) -> None:
    """Chosen comments that a person has labelled and added are in the next day's data, beside all older comments."""
    data = folder / "data" / "training" / "20260101"
    data.mkdir(parents=True)
    (data / "old.csv").write_bytes(SAMPLE[0].read_bytes())
    fifth = pd.read_csv(SAMPLE[1], **PANDAS)
    fifth.drop(columns="CLASS").to_csv(folder / "fifth.csv", index=False)
    assert score(folder, "fifth.csv", "--for-labelling", "20", "--output", "new.csv").returncode == 0
    labelled = pd.read_csv(folder / "new.csv", encoding="utf-8-sig", **PANDAS)
    labels = fifth.set_index("COMMENT_ID")["CLASS"]
    labelled["CLASS"] = [labels[name] if number < 15 else "" for number, name in enumerate(labelled["COMMENT_ID"])]
    labelled.to_csv(folder / "new.csv", index=False, sep=";", encoding="utf-8-sig")
    command = [sys.executable, "-P", "-m", "pmip", "seed-training-data", "--add", "new.csv", "--day", "20260102"]
    settings = os.environ | {"DATA_DIR": "data", "ENVIRONMENT": "dev"}
    subprocess.run(command, cwd=folder, env=settings, check=True, capture_output=True, timeout=120)
    comments = read_comments(find_local(folder / "data", folder).files)
    assert comments["source"].value_counts().to_dict() == {
        "old": len(read_comments(local_files(SAMPLE[:1]))),
        "fifth": 15,
    }
    assert not set(PREDICTED) & set(comments)
