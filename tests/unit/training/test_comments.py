"""Comment files are read exactly as they are written, or refused with file and line and without any comment."""

import csv
import gzip
import io
import re
import traceback
import zipfile
from contextlib import suppress
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import SAMPLE
from hypothesis import given, settings
from hypothesis import strategies as st

from pmip.errors import TrainingDataError
from pmip.training import comments as reading
from pmip.training import files
from pmip.training.comments import contradictory, describe, read_comments
from pmip.training.data import local_files
from pmip.training.files import CommentFile

HEADER = "CONTENT,CLASS\n"
ROWS = "".join(f"comment {number},{number % 2}\n" for number in range(20))
COMMENT = st.text().filter(lambda text: text.replace("\ufeff", "").strip())
MARKER = "Wallaby"  # part of comments that no error may show
SPAM = f"{MARKER},1\n"


def saved(folder: Path, name: str, content: str | bytes) -> CommentFile:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return CommentFile(folder / name, name, f"s3://bucket/{name}")


def zipped(entries: dict[str, str | bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Pack files into a zip; a name that ends in / is a folder."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def patched(packed: bytes, offset: int, value: bytes) -> bytes:
    """Change both headers of a zip that has one entry; `offset` counts from the start of the local header."""
    result = bytearray(packed)
    for start in (packed.index(b"PK\x03\x04"), packed.index(b"PK\x01\x02") + 2):
        result[start + offset : start + offset + len(value)] = value
    return bytes(result)


def refusal(file: CommentFile) -> str:
    """Return the reason why a file is refused, and check that no traceback would show a comment."""
    with pytest.raises(TrainingDataError) as raised:
        read_comments([file])
    assert MARKER not in "".join(traceback.format_exception(raised.value))
    return str(raised.value)


def test_the_sample_is_read() -> None:
    """Every row of the sample is read once and in order, with the name of its file and its row number."""
    comments = read_comments(local_files(SAMPLE))
    assert " ".join(comments.columns) == "source_file source_row COMMENT_ID AUTHOR DATE CONTENT CLASS source"
    assert (len(comments), set(comments["CLASS"])) == (554, {0, 1})
    assert comments["CONTENT"].str.strip().all()
    sizes = comments.groupby("source_file").size()
    assert list(sizes.index) == [path.name for path in SAMPLE]
    assert list(comments["source_row"]) == [row for size in sizes for row in range(1, size + 1)]
    assert list(comments["source"].unique()) == [path.stem for path in SAMPLE]


def test_describe_counts_the_comments_of_each_file(tmp_path: Path) -> None:
    """The description of a zip counts the rows of all its CSV files, and no rows of a file with a similar name."""
    packed = zipped({"a.csv": HEADER + ROWS, "deep/b.csv": HEADER + ROWS})
    files = [saved(tmp_path, "day.zip", packed), saved(tmp_path, "day.zip.csv", HEADER + ROWS)]
    assert describe(files, read_comments(files)) == [
        {"name": "day.zip", "sha256": sha256(packed).hexdigest(), "rows": 40},
        {"name": "day.zip.csv", "sha256": sha256((HEADER + ROWS).encode()).hexdigest(), "rows": 20},
    ]


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_is_read_with_all_its_csv_files(
    tmp_path: Path, compression: int, caplog: pytest.LogCaptureFixture
) -> None:
    """All CSV files of a zip are read; hidden files are ignored, and a warning names files of other types."""
    hidden = ["__MACOSX/._a.csv", "deep/__MACOSX/b.csv", ".hidden.csv", ".git/c.csv"]
    entries = {"a.csv": HEADER + ROWS, "deep/": "", "deep/er/B.CSV": HEADER + "last,1\n"}
    entries |= dict.fromkeys([*hidden, "notes.txt", "inner.zip", "more.xlsx"], MARKER)
    comments = read_comments([saved(tmp_path, "Day.ZIP", zipped(entries, compression))])
    assert list(comments["source_file"].unique()) == ["Day.ZIP/a.csv", "Day.ZIP/deep/er/B.CSV"]
    assert list(comments.iloc[-1]) == ["Day.ZIP/deep/er/B.CSV", 1, "last", 1, "B"]
    left_out = "s3://bucket/Day.ZIP: only CSV files are read; left out: notes.txt, inner.zip, more.xlsx"
    assert caplog.messages == [left_out]


def packed(content: bytes, ending: str) -> bytes:
    if ending == ".zip":
        return zipped({"in/x.csv": content})
    return gzip.compress(content, mtime=0) if ending.endswith(".gz") else content


TEXTS = ["a, b; c\td|e", 'said "so"\nand\n\nwent', " déjà ", "🎉 😀", "NA", "007", *(f"text {n}" for n in range(20))]
LABELS = [("0", "1"), ("0.0", "1.0"), ("False", "True"), ("ham", "SPAM"), ("false ", " true"), ("0.00", "1.00")]
LABELS += [("0,0", "1,0"), ("Not spam", "Spam"), ("not_spam", "spam"), ("non-spam", "SPAM"), ("no", "yes"), ("N", "Y")]
LABELS += [("FALSCH", "WAHR"), ("faux", "vrai"), ("FALSO", "VERDADERO"), ("f", "t"), (' "0"', ' "1"')]
ENDINGS = [".csv", ".tsv", ".csv.gz", ".zip"]
PANDAS = {"dtype": str, "keep_default_na": False}  # every cell stays text as it is written
FRAME = pd.DataFrame({"CONTENT": TEXTS, "CLASS": [str(number % 2) for number in range(len(TEXTS))]})
SHAPES = list(product(["utf-8", "utf-8-sig", "utf-16"], [",", ";", "\t"], ENDINGS))


@pytest.mark.parametrize(
    ("number", "shape"), list(enumerate(SHAPES)), ids=[" ".join(map(repr, shape)) for shape in SHAPES]
)
def test_a_table_is_read_as_pandas_reads_it_when_told_its_shape(
    tmp_path: Path, number: int, shape: tuple[str, str, str]
) -> None:
    """Encoding, separator, labels and compression are detected, and the rows are those that pandas reads."""
    (encoding, separator, ending), labels = shape, LABELS[number % len(LABELS)]
    table = FRAME.assign(CLASS=[labels[int(label)] for label in FRAME["CLASS"]])
    content = table.to_csv(sep=separator, index=number % 2 == 0, lineterminator="\r\n" if number % 3 else "\n")
    content = content.encode(encoding)
    comments = read_comments([saved(tmp_path, f"x{ending}", packed(content, ending))])
    read = pd.read_csv(io.BytesIO(content), sep=separator, encoding=encoding, **PANDAS)
    assert list(comments["CONTENT"]) == list(read["CONTENT"]) == TEXTS
    assert [labels[label] for label in comments["CLASS"]] == list(read["CLASS"])
    assert set(comments["source"]) == {"x"}


TABLE = FRAME.to_csv(index=False)
ODD_SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "blank lines before the header": ("\n \n" + TABLE, {"skiprows": 2}),
    "a line that tells Excel the separator": (
        "sep=;\r\n" + FRAME.to_csv(index=False, sep=";"),
        {"skiprows": 1, "sep": ";"},
    ),
    "bars": (FRAME.to_csv(index=False, sep="|"), {"sep": "|"}),
    "all fields in quotes": (FRAME.to_csv(index=False, quoting=csv.QUOTE_ALL), {}),
    "two index columns without a name": (FRAME.set_index([FRAME.index, FRAME.index]).to_csv(), {}),
    "rows of commas alone": (TABLE.replace("NA,", ",\n\n , \nNA,"), {}),
    "files joined with their headers": (TABLE + "\ufeff" + TABLE, {}),
    "names of columns in other letters": (
        TABLE.replace("CONTENT,CLASS", " Content,class "),
        {"names": ["CONTENT", "CLASS"], "header": 0},
    ),
    "another column whose name differs in its letters": (
        TABLE.replace("CONTENT,CLASS", "CONTENT,CLASS,class").replace(",0\n", ",0,x\n").replace(",1\n", ",1,x\n"),
        {},
    ),
}


@pytest.mark.parametrize("name", ODD_SHAPES)
def test_an_odd_table_is_read_where_it_can_mean_one_thing_alone(tmp_path: Path, name: str) -> None:
    """An odd table with only one possible meaning is read completely: no row is lost and none is invented."""
    content, how = ODD_SHAPES[name]
    comments = read_comments([saved(tmp_path, "x.csv", content)])
    read = pd.read_csv(io.StringIO(content), **PANDAS | how)
    read = read[read["CONTENT"].str.strip().ne("") & ~read["CONTENT"].str.endswith("CONTENT")]
    assert len(comments) >= len(FRAME)
    assert list(comments["CONTENT"]) == list(read["CONTENT"])
    assert list(comments["CLASS"].astype(str)) == list(read["CLASS"])


WORKBOOK = zipped({"_rels/.rels": "x" * 9999, "[Content_Types].xml": "", "xl/workbook.xml": ""})
OTHER_KINDS = {
    "an Excel workbook; save it from Excel as 'CSV UTF-8'": [WORKBOOK, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"],
    "a zip file; give it a name that ends in .zip": [zipped({"x.csv": HEADER + ROWS})],
    "a gzip file; give it a name that ends in .csv.gz": [gzip.compress(HEADER.encode(), mtime=0)],
    "a Git LFS pointer, not the file itself; run 'git lfs pull'": [b"version https://git-lfs.github.com/spec/v1\noid"],
    "a web page; download the file itself, and": [
        *(b"\n<!DOCTYPE html><html>", b"<HTML><body>", b"<table><tr><td>CONTENT</td></tr></table>", b"<div class='x'>"),
        *("<html>".encode("utf-16"), b"\xef\xbb\xbf<!doctype html>", b"<script>"),
    ],
    "an empty file; save or download it again": [b""],
    "JSON; save the table as CSV, in Python": [
        *(b'{"CONTENT": "x"}\n', b'[{"CONTENT": "x"}]', b'[\n  {\n    "CONTENT": "x"\n  }\n]', b'{\n"a": [1]}'),
        *(b"[]", b"{}", b'["CONTENT", "CLASS"]', b'\xef\xbb\xbf{ "a": {}}', '[{"a": 1}]'.encode("utf-16")),
    ],
    "JSON Lines; save the table as CSV": [
        b'{ "a": "x", "b": 0}\n{ "a": "y"}\n',
        b'{"a": 1}\r\n\r\n{"a": 2}',
        b'{"a":1}{"a":2}',
    ],
    "an export of Label Studio as JSON": [b'[{"text": "x", "annotator": 1}]', b'[{"id": 1,\n "annotations": []}]'],
    "XML; save its table": [b"<?xml version='1.0'?><Workbook>"],
    "compressed in a way that is not read": [b"BZh9", b"\xfd7zXZ\0", b"(\xb5/\xfd", b"7z\xbc\xaf\x27", b"Rar!\x1a"],
    "an Arrow file, a database or a document": [b"ARROW1\0", b"SQLite format 3\0", b"%PDF-1.7", b"{\\rtf1"],
    "an OpenDocument file": [
        zipped({"mimetype": "application/vnd.oasis.opendocument.spreadsheet"}, zipfile.ZIP_STORED)
    ],
    "a Parquet file; save the table as CSV": [b"PAR1\x15\x04"],
}


@pytest.mark.parametrize(
    ("kind", "content"), [(kind, content) for kind in OTHER_KINDS for content in OTHER_KINDS[kind]]
)
def test_what_is_no_table_is_told_by_its_kind(tmp_path: Path, kind: str, content: bytes) -> None:
    """A file that is no table is refused with its type and what to do instead, alone and inside a zip."""
    assert refusal(saved(tmp_path, "x.csv", content)).startswith(f"s3://bucket/x.csv: this is {kind}")
    inside = refusal(saved(tmp_path, "x.zip", zipped({"x.csv": content})))
    assert inside.startswith(f"s3://bucket/x.zip, entry x.csv: this is {kind}")


def test_a_workbook_a_web_page_and_nothing_are_no_zip_or_gzip_file(tmp_path: Path) -> None:
    """A file named .zip or .gz that is something else, damaged or compressed twice is refused with that reason."""
    assert "this is an Excel workbook" in refusal(saved(tmp_path, "x.zip", WORKBOOK))
    assert "this is a web page" in refusal(saved(tmp_path, "x.csv.gz", b"<html>"))
    assert "this is an empty file" in refusal(saved(tmp_path, "x.csv.gz", b""))
    plain = refusal(saved(tmp_path, "x.csv.gz", HEADER + ROWS))
    assert re.fullmatch(r"s3://bucket/x.csv.gz: not a readable gzip file \(.*\); remove .gz from its name .*", plain)
    packed = gzip.compress((HEADER + ROWS).encode())
    assert "not a readable gzip file" in refusal(saved(tmp_path, "x.csv.gz", packed[:-9]))
    twice = "gzipped twice; unpack it once with gunzip"
    assert refusal(saved(tmp_path, "x.csv.gz", gzip.compress(packed))) == f"s3://bucket/x.csv.gz: {twice}"
    in_zip = refusal(saved(tmp_path, "x.zip", zipped({"x.tsv.gz": gzip.compress(packed)})))
    assert in_zip == f"s3://bucket/x.zip, entry x.tsv.gz: {twice}"


@pytest.mark.parametrize("column", ["source", "VIDEO_NAME", "Video_Id", "videoId", "Video Name"])
def test_a_column_names_the_source_where_it_tells_several_apart(tmp_path: Path, column: str) -> None:
    """A column with several videos gives the source of each comment; where it has no value, the file's name does."""
    head, rows = f"{column},{HEADER}", "".join(f"one,{row}\n" for row in ROWS.splitlines())
    one = saved(tmp_path, "one.csv", head + rows)
    other = saved(tmp_path, "b.csv.gz", gzip.compress((HEADER + ROWS).encode()))
    assert set(read_comments([one])["source"]) == {"one"}
    two = saved(tmp_path, "two.tsv", head + rows.replace("one,", " two ,", 5).replace("one,", ",", 1))
    assert read_comments([one, two, other])["source"].value_counts().to_dict() == {"one": 34, "b": 20, "two": 6}


@pytest.mark.parametrize(
    ("column", "values", "reason"),
    [
        ("source", ["Twitter Web App", "Twitter for iPhone"], "it names apps or devices"),
        ("SOURCE", ["YouTube Android app", "Mobile Web", "fifth video"], "it names apps or devices"),
        ("source", ["Windows", "iPad", "Mac"], "it names apps or devices"),
        ("video_id", [f"https://x.test/{number}" for number in range(20)], "most of its values occur only once"),
        ("source", ["a", "a", *"bcdefghijklmnopqrst"], "most of its values occur only once"),
    ],
)
def test_a_column_that_names_no_videos_is_not_used(
    tmp_path: Path, column: str, values: list[str], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A column that names apps, or whose values rarely repeat, is not used as the source; a warning says why."""
    rows = [f"comment {n},{n % 2},{values[n % len(values)]},{'ab'[n % 3 == 0]}" for n in range(20)]
    file = saved(tmp_path, "x.csv", "\n".join([f"CONTENT,CLASS,{column},videoId", *rows]))
    alone = saved(tmp_path, "y.csv", "\n".join([f"CONTENT,CLASS,{column}", *(row.rsplit(",", 1)[0] for row in rows)]))
    assert set(read_comments([file])["source"]) == ({"a", "b"} if column != "video_id" else {"x"})
    assert set(read_comments([alone])["source"]) == {"y"}
    told = f"the column {column} is not used as the source of the comments, because {reason}"
    assert [message.startswith(told) for message in caplog.messages][-1:] == [True]


def test_files_of_one_name_in_different_folders_are_different_sources(tmp_path: Path) -> None:
    """Files with the same short name are different sources, named by their whole paths."""
    names = ["a/comments.csv", "b/comments.csv", "c.csv", "d.tsv", "d.csv"]
    found = read_comments([saved(tmp_path, "x.zip", zipped(dict.fromkeys(names, HEADER + ROWS)))])["source"].unique()
    assert list(found) == ["x.zip/a/comments.csv", "x.zip/b/comments.csv", "c", "x.zip/d.tsv", "x.zip/d.csv"]


def test_files_with_other_columns_are_read_together(tmp_path: Path) -> None:
    """Files with different columns are read together; further columns stay text, or missing where a file has none."""
    one = saved(tmp_path, "one.csv", "CLASS,VIDEO,CONTENT\n1,007,first\n")
    empty = saved(tmp_path, "empty.csv", "CONTENT,CLASS,EMPTY\n")
    two = saved(tmp_path, "two.csv", " CONTENT , CLASS ,AUTHOR\nsecond, 0 ,NA\n" + ROWS.replace("\n", ",\n"))
    comments = read_comments([one, empty, two])
    assert list(zip(comments["CONTENT"][:2], comments["CLASS"][:2], strict=True)) == [("first", 1), ("second", 0)]
    assert (comments["VIDEO"][0], comments["AUTHOR"][1]) == ("007", "NA")
    assert pd.isna(comments["VIDEO"][1])
    assert comments["CLASS"].dtype == "int64"


@settings(deadline=None)
@given(rows=st.lists(st.tuples(COMMENT, st.text(), st.sampled_from([0, 1])), min_size=20))
def test_any_table_reads_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, int]]) -> None:
    """Any comment that a CSV file can hold is read back unchanged, with its line ends, quotes, commas and NUL."""
    rows = [('spam, "spam"\r\nand\nspam\r', "NA", 1), ("eggs", "", 0), *rows]
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("CONTENT", "AUTHOR", "CLASS"), *rows])
    file = saved(tmp_path_factory.getbasetemp(), "any.csv", "\ufeff" + text.getvalue().removesuffix("\r\n"))
    comments = read_comments([file])[["CONTENT", "AUTHOR", "CLASS"]]
    assert list(comments.itertuples(index=False, name=None)) == rows


@settings(deadline=None)
@given(
    st.binary()
    | st.lists(st.sampled_from(['"', ",", "\n", "\r", "0", "1", "\0", "\ufeff", "é"])).map("".join).map(str.encode),
    st.sampled_from(["", HEADER, HEADER + ROWS]),
    st.booleans(),
)
def test_any_bytes_are_comments_or_an_error_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, before: str, in_zip: bool
) -> None:
    """Any bytes are either read as comments of both classes or refused with a TrainingDataError."""
    content = before.encode() + content
    packed = zipped({"x.csv": content}) if in_zip and before else content
    file = saved(tmp_path_factory.getbasetemp(), "bytes.zip" if in_zip else "bytes.csv", packed)
    with suppress(TrainingDataError):
        comments = read_comments([file])
        assert set(comments["CLASS"]) == {0, 1}
        assert comments["CONTENT"].str.strip().all()


BACKSLASHES = [(22, rf'"{MARKER} \"quoted\"",0' + "\n"), (23, SPAM + rf'"{MARKER} 5\"",1' + f"\n{SPAM}")]
SEVERAL = (
    f"{MARKER},maybe\n{MARKER},1,2\n,1\n{MARKER},maybe\n{MARKER},Maybe not\n{MARKER},\n{MARKER},-1\n{MARKER},1,2\n"
)
NOT_LABELS = "".join(f"{number % 2},first {MARKER} {number}\n" for number in range(20))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            HEADER + ROWS + SEVERAL,
            r"line 22: CLASS must be 0 \(not spam\) or 1 \(spam\), not 'maybe' \(and 1 more rows\); "
            r"line 23: 3 fields where .*\(and 1 more rows\); line 24: CONTENT is empty; line 26: .*not 'Maybe not'; "
            r"line 27: .*it is empty; and 1 more mistakes of other kinds$",
        ),
        (HEADER + NOT_LABELS, r"line 2: CLASS must be .*, but holds 20 different values; .* \(and 19 more rows\)$"),
        *((text + ROWS, "line 1: no column CONTENT and no column CLASS") for text in ("", f"{MARKER},0\n")),
        ("\n" + ROWS, "line 2: no column CONTENT and no column CLASS"),
        ("CONTENT,LABEL\n" + SPAM, "line 1: no column CLASS;"),
        *((HEADER.replace("\n", f",{column}\n"), "line 1: two columns have") for column in ("CLASS", "AUTHOR,AUTHOR")),
        *((HEADER + ROWS + f"{MARKER},{bad}\n", "line 22: CLASS must be 0") for bad in ("2", "", "maybe", "1.5", "-1")),
        (HEADER + ROWS + f"{MARKER},\n", "line 22: CLASS must be 0 .*; it is empty"),
        (HEADER + f"{MARKER},1\n,,\n", "line 3: 3 fields where the header has 2"),
        (HEADER.replace(",", ";") + f"{MARKER}, x;1;1\n", "line 2: 3 fields where the header has 2"),
        *((HEADER + f"{bad},1\n" + SPAM, "line 2: CONTENT is empty") for bad in ("", '"  "', "\ufeff \ufeff \ufeff")),
        *((HEADER + ROWS + bad, f"line {at}: a quote is written as .*escapechar") for at, bad in BACKSLASHES),
        (HEADER + f'"one\ntwo",0\n"three\n{MARKER},1"\n', "line 4: 1 fields where the header has 2"),
        (HEADER + f"fine,1\n{MARKER},{MARKER},1\n", "line 3: 3 fields where the header has 2"),
        (HEADER + f'fine,1\n"one\ntwo\r\n\r\nfive",0\n\n{MARKER},x\n', "line 8: CLASS must be"),
        (HEADER + f'"one\ntwo",0\n"{MARKER},1\n{MARKER},0\n', "line 4: not a well-formed CSV row"),
        *((HEADER + f"{bad},0\n", "line 2: not a well-formed") for bad in (f'"{MARKER}" again', MARKER * 20_000)),
        (f'"{MARKER}\n\n', "line 1: not a well-formed CSV row"),
        ((HEADER + f"fine,1\n{MARKER} déjà,1\n").encode("latin-1"), "line 3: not UTF-8; save the file as UTF-8"),
        ((HEADER + f"fine,1\n{MARKER},1\n").encode("utf-16")[:-1], "line 3: not UTF-16; save the file as UTF-8"),
        *(
            ((HEADER + SPAM).encode(bare), "line 1: no column .*; save the file as UTF-8")
            for bare in ("utf-16-le", "utf-32")
        ),
    ],
)
def test_a_file_with_a_mistake_is_refused(tmp_path: Path, content: str | bytes, reason: str) -> None:
    """A mistake is reported with the file and the line where its record begins, and without any comment."""
    plain = refusal(saved(tmp_path, "x.csv", content))
    assert re.match(f"s3://bucket/x.csv, {reason}", plain)
    packed = refusal(saved(tmp_path, "x.zip", zipped({"good.csv": HEADER + ROWS, "in/x.csv": content})))
    assert packed == plain.replace("x.csv", "x.zip, entry in/x.csv")


@pytest.mark.parametrize("header", ["CONTENT,class,probability", "CONTENT,predicted_class,predicted_probability"])
def test_what_a_model_predicted_is_no_label(tmp_path: Path, header: str) -> None:
    """A scored file is refused until a person has filled the column CLASS, which then gives the labels."""
    rows = "".join(f"comment {number},{number % 2},0.5\n" for number in range(20))
    reason = (
        "the classes in this file are predictions of 'score' and no labels; add a column CLASS, and fill it by hand"
    )
    assert refusal(saved(tmp_path, "x.csv", f"{header}\n{rows}")) == f"s3://bucket/x.csv, line 1: {reason}"
    labelled = "".join(f"comment {number},1,0.5,{int(number == 7)}\n" for number in range(20))
    assert read_comments([saved(tmp_path, "x.csv", f"{header},CLASS\n{labelled}")])["CLASS"].sum() == 1


def test_very_many_blank_rows_are_refused(tmp_path: Path) -> None:
    """A small file can unpack to hundreds of millions of blank lines, which the error counts up to its limit."""
    for content in (HEADER + ROWS + "\n" * 200_001, "\n" * 200_002 + HEADER):
        with pytest.raises(TrainingDataError, match=r"x\.csv, line 2.*: more than 200,000 blank rows; remove them"):
            read_comments([saved(tmp_path, "x.csv", content)])


WRONG_ENCODINGS = ["café schön", "it’s “fine” – really", "привет", "😀 nice", "日本語", "ça va – voilà"]
RIGHT = ["São João, NÃO É", "“CAFÉ” à l’été", "voilà\xa0!", "привет", "日本語 😀", "£5 ²"]


@pytest.mark.parametrize("text", WRONG_ENCODINGS)
def test_texts_in_a_wrong_encoding_are_warned_of(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    """A warning counts the comments that were decoded wrongly and gives the first line; correct texts cause none."""
    wrong = text.encode().decode("latin-1" if "日" in text or "п" in text else "cp1252", "ignore")
    read_comments([saved(tmp_path, "x.csv", HEADER + ROWS + f"{wrong},1\n{wrong} {wrong},0\n")])
    assert caplog.messages[0].startswith("s3://bucket/x.csv: 2 comments look as if UTF-8 had been read in another ")
    assert "the first in line 22" in caplog.messages[0]
    caplog.clear()
    rows = [(text, 1), *((right, 0) for right in RIGHT if right != text)]
    read_comments([saved(tmp_path, "x.csv", HEADER + ROWS + "".join(f'"{right}",{label}\n' for right, label in rows))])
    assert caplog.messages == []


def test_quotes_that_swallow_rows_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A warning gives the lines that stray quotes join into one comment; a comment of four lines causes none."""
    swallowed = f'" open,0\n{ROWS}the end of it",1\n"a comment\nof, say,\nfour lines, 1\nin all",0\n'
    assert len(read_comments([saved(tmp_path, "x.csv", HEADER + ROWS + swallowed)])) == 22
    told = "one comment that holds 21 rows; is there a quote that does not belong there?"
    assert caplog.messages == [f"s3://bucket/x.csv, lines 22 to 43: {told}"]


def test_contradictory_labels_are_counted(tmp_path: Path) -> None:
    """Both rows of a text that has both labels are contradictory; a text that repeats with one label is not."""
    comments = read_comments([saved(tmp_path, "x.csv", HEADER + ROWS + "comment 3,0\n comment 4 ,0\n")])
    assert [place for place, is_one in enumerate(contradictory(comments)) if is_one] == [3, 20]


def test_what_no_model_can_be_fitted_on_is_refused(tmp_path: Path) -> None:
    """Fewer than 20 comments, or comments of one class only, are refused before a model is fitted."""
    assert refusal(saved(tmp_path, "x.csv", HEADER)).startswith("0 comments are too few to train on; at least 20")
    assert refusal(saved(tmp_path, "x.csv", HEADER + 19 * SPAM)).startswith("19 comments are too few")
    assert refusal(saved(tmp_path, "x.csv", HEADER + 20 * SPAM)).startswith("every comment has CLASS 1; both 0 and 1")


OUTSIDE = ("../x.csv", "a/../../x.csv", "/x.csv", "..\\x.csv", "\\x.csv", "C:\\x.csv", "C:x.csv", "../x.txt")
ZIP = zipped({"x.csv": HEADER + ROWS + SPAM})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        *((text, "not a readable zip") for text in (b"PK", (HEADER + MARKER).encode())),
        (patched(ZIP, 6, b"\x01"), "encrypted; unpack the zip with its password, and zip the files again without one"),
        *((patched(ZIP, at, b"\x10\0\0\0"), "not a readable zip .*CRC") for at in (14, 22)),
        (
            zipped({"x.txt": MARKER, ".x.csv": "", "__MACOSX/x.csv": "", "x.csv/": ""}),
            "holds no .csv file; it holds: x.txt",
        ),
        *((zipped({"a.csv": HEADER + ROWS, name: MARKER}), "'.+' points outside its folder") for name in OUTSIDE),
        (zipped({"x.csv": HEADER + ROWS}, zipfile.ZIP_LZMA), "not compressed by deflate"),
    ],
)
def test_a_zip_that_cannot_be_trusted_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    """A zip that is damaged, encrypted, without a CSV file or with names outside its folder is refused by name."""
    assert re.match(f"s3://bucket/x.zip(, entry x.csv)?: {reason}", refusal(saved(tmp_path, "x.zip", content)))


@pytest.mark.parametrize("name", ["x\n.csv", "\x1b[2Jx.csv", "x\u202evsc.csv", "\x7f.csv"])
def test_a_name_that_cannot_be_shown_is_refused(tmp_path: Path, name: str) -> None:
    """A CSV file whose name has unprintable characters is refused, because messages and metadata contain the name."""
    reason = refusal(saved(tmp_path, "x.zip", zipped({"a.csv": HEADER + ROWS, name: HEADER})))
    assert reason == f"s3://bucket/x.zip: {name!r} has characters that cannot be printed; give it another name"
    others = zipped({"a.csv": HEADER + ROWS, "Icon\r": "", f"{name}.txt": ""})
    assert len(read_comments([saved(tmp_path, "x.zip", others)])) == 20


def test_a_damaged_zip_is_refused_or_read_right(tmp_path: Path) -> None:
    """A zip that is cut or changed at any byte is refused or read correctly, and never gives wrong comments."""
    whole = zipped({"x.csv": HEADER + ROWS})
    for at, damage in product(range(len(whole)), ("cut", "changed")):
        content = whole[:at] + (bytes([whole[at] ^ 0xFF]) + whole[at + 1 :] if damage == "changed" else b"")
        try:
            comments = read_comments([saved(tmp_path, "x.zip", content)])
        except TrainingDataError as error:
            assert str(error).startswith("s3://bucket/x.zip")  # noqa: PT017 - not each of them is an error
        else:
            assert list(comments["CONTENT"]) == [f"comment {number}" for number in range(20)]


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".zip"])
def test_a_file_may_hold_so_much_and_no_more(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of any type is read up to the limit of unpacked bytes, and refused when it has one byte more."""
    content, size = (HEADER + ROWS).encode(), len(HEADER + ROWS)
    file = saved(tmp_path, f"x{ending}", packed(content, ending))
    if ending == ".zip":
        file, size = saved(tmp_path, "x.zip", zipped({"a.csv": content, "b.csv": content})), 2 * size
    monkeypatch.setattr(files, "MAX_UNPACKED_BYTES", size)
    assert len(read_comments([file, file])) == 2 * size // len(content) * 20
    monkeypatch.setattr(files, "MAX_UNPACKED_BYTES", size - 1)
    limit = f"holds more than {size - 1} bytes (MAX_UNPACKED_BYTES in pmip/training/files.py)"
    assert refusal(file) == f"s3://bucket/x{ending}: {limit}; split it into several files"


@pytest.mark.parametrize(("limit", "fits"), [("MAX_COMMENTS", 40), ("MAX_CELLS", 80)])
def test_the_rows_and_cells_of_all_files_are_limited(
    tmp_path: Path, limit: str, fits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If all files together have too many rows or cells, they are refused with the limit's name."""
    pair = [saved(tmp_path, name, HEADER + ROWS) for name in ("x.csv", "y.csv")]
    monkeypatch.setattr(reading, limit, fits)
    assert len(read_comments(pair)) == 40
    monkeypatch.setattr(reading, limit, fits - 1)
    with pytest.raises(TrainingDataError, match=rf"y.csv: the training data holds more than .*{limit}.*take a sample$"):
        read_comments(pair)
