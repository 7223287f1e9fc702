"""Gives the bytes of a coverage-guided fuzzer to one reader of outside input; scripts/fuzz.sh runs it.

usage: python tests/support/fuzz.py TARGET [LIBFUZZER-ARGUMENT ...] FOLDER
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["pmip", "json", "zipfile", "csv", "html"], enable_loader_override=False):
    import hostile_files  # imported here because they import the package, whose branches have to be counted
    import hostile_zips

    from pmip import text
    from pmip.config import Limits
    from pmip.disguises import undisguised
    from pmip.errors import ArtifactError, PayloadError, TrainingDataError
    from pmip.http.requests import comments_of
    from pmip.model.artifact import Metadata
    from pmip.model.lookups import Lookup
    from pmip.model.reading import read
    from pmip.training import augmentation, files
    from pmip.training.comments import read_comments
    from pmip.training.files import CommentFile

MOST_SECONDS = 2  # of CPU time; the fuzzer's own instrumentation is included
FOLDER = Path(tempfile.mkdtemp(prefix="pmip-fuzz-"))
files.MAX_UNPACKED_BYTES = 2**20
HEADER = b"CONTENT,CLASS\n" + b"".join(b"comment %d,%d\n" % (number, number % 2) for number in range(20))


def payload(content: bytes) -> None:
    """Read the comments of a request's body, or raise an error that the caller gets."""
    with suppress(PayloadError):
        comments = comments_of(content, Limits())
        assert all(isinstance(comment, str) and len(comment) <= 10_000 for comment in comments)


def normaliser(content: bytes) -> None:
    """Compute normal form, n-grams, features and copies of any text; the normal form has single spaces."""
    comment = content.decode("utf-8", "surrogateescape")  # also lone surrogates, which JSON can contain
    normalised = text.normalised(comment)
    assert normalised == " ".join(normalised.split())
    normalised.encode()
    assert "\ufeff" not in undisguised(comment)
    assert all(ngram.strip() for ngram in text.token_ngrams(comment))
    assert len(text.comment_features(comment)) == len(text.COMMENT_FEATURES)
    augmentation.copies_of(comment)


def comment_file(name: str, content: bytes) -> None:
    """Read a file as a table of comments, or refuse it with a printable message."""
    path = FOLDER / name
    path.write_bytes(content)
    try:
        table = read_comments([CommentFile(path, name, name)])
    except TrainingDataError as error:
        assert str(error).isprintable()  # noqa: PT017 - not each input raises an error
    else:
        assert set(table["CLASS"]) == {0, 1}
    assert [*FOLDER.iterdir()] == [path]


def csv(content: bytes) -> None:
    """Read bytes after a valid beginning of a table, or without one."""
    comment_file("x.csv", HEADER + content if content[:1] != b"\0" else content[1:])


def zip_(content: bytes) -> None:
    comment_file("x.zip", content)


def model(content: bytes) -> None:
    """Read a pickle or refuse it; a model that is read can be written as JSON, and scores."""
    with suppress(ArtifactError):
        plain = read(content, max_bytes=2**20)
        assert json.loads(json.dumps(plain)) == plain
        Lookup.from_plain(plain).spam_probability("free stuff")


def metadata(content: bytes) -> None:
    with suppress(ArtifactError):
        Metadata.from_json(content).to_json()


TARGETS: dict[str, Callable[[bytes], None]] = {
    "payload": payload,
    "normaliser": normaliser,
    "csv": csv,
    "zip": zip_,
    "model": model,
    "metadata": metadata,
}


def seeds(target: str) -> list[bytes]:
    families = (hostile_files.CLAIMING, hostile_files.MISUSING, hostile_files.RUNNING, hostile_files.TRICKING)
    models = [*hostile_files.SOUND.values(), *(content for family in families for content in family.values())]
    zips = [hostile_zips.ZIP, *hostile_zips.DAMAGED.values(), *hostile_zips.NAMING.values()]
    known = {"csv": [HEADER, b"\0" + HEADER], "zip": zips, "model": models, "payload": [b'{"comments": ["a"]}']}
    return [content for content in known.get(target, [b"{}"]) if len(content) < 4096]


def bounded(target: Callable[[bytes], None]) -> Callable[[bytes], None]:
    def run(content: bytes) -> None:
        begin = time.process_time()
        target(content)
        assert time.process_time() - begin < MOST_SECONDS

    return run


if __name__ == "__main__":
    for number, content in enumerate(seeds(sys.argv[1])):
        Path(sys.argv[-1], f"seed-{number}").write_bytes(content)
    atheris.Setup([sys.argv[0], *sys.argv[2:]], bounded(TARGETS[sys.argv[1]]))
    atheris.Fuzz()
