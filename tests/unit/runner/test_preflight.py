"""The preflight refuses a notebook with the cell or line to correct, and accepts the project's notebook."""

import re
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import nbformat
import pytest
from conftest import ROOT
from nbformat.v4 import new_code_cell, new_notebook, new_output

from pmip.__main__ import main
from pmip.errors import PreflightError
from pmip.runner import preflight

NOTEBOOK = ROOT / "notebooks" / "model-training.ipynb"
CELLS = nbformat.read(NOTEBOOK, as_version=4).cells
[PARAMETERS] = [cell.source for cell in CELLS if "parameters" in cell.metadata.get("tags", [])]


def write(folder: Path, parameters: str = PARAMETERS, *others: str, **of_last: Any) -> Path:
    """Write the project's notebook with other parameters, and with further cells before all of its own."""
    cells = deepcopy(CELLS)
    for cell in cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source = parameters
    added = [new_code_cell(source, id=f"cell-{number}") for number, source in enumerate(others)]
    (added or cells)[-1].update(of_last)
    nbformat.write(new_notebook(cells=[*added, *cells], metadata={}), folder / "a.ipynb")
    return folder / "a.ipynb"


def test_literals_relative_paths_and_stripped_outputs_pass(tmp_path: Path) -> None:
    """A notebook with web addresses, relative paths and words about tokens passes, and so does the project's own."""
    fine = (
        'path = Path("..") / "data"',
        "# https://example.com/home a/b tokens = words",
        r'TfidfVectorizer(token_pattern="\\w+|[!?]+", tokenizer=None)',
        'key = os.environ["API_KEY"]; token = os.environ.get("TOKEN"); f"Bearer {token}"',
        'if kind == "password":\n    import platform; platform.system()',
        "%%time\n%matplotlib inline\nfrom urllib.parse import urlsplit",
        'pd.read_csv("data/x.csv"); store.fetch_newest()',
    )
    preflight.check(write(tmp_path, PARAMETERS, *fine))
    preflight.check(NOTEBOOK)


@pytest.mark.parametrize(
    "line", ["N = 2 + 3j * 4", "N = len('')", "n = 1", "N: int = 1", "A = B = 1", "import os", "N +"]
)
def test_what_papermill_cannot_replace_is_refused(line: str, tmp_path: Path) -> None:
    """A line that Papermill cannot replace is refused, and the message names the parameters cell."""
    with pytest.raises(PreflightError, match=r"(line \d+ of the )?parameters cell .*(line \d+|is not NAME = literal)"):
        preflight.check(write(tmp_path, f"{PARAMETERS}\n{line}"))


PATHS = ['open("/home/ada/x.csv")', "open('~/x.csv')", 'path = "C:\\\\Users\\\\ada"', "# see /tmp/x"]
PATHS += ['open("C:/Users/ada/x.csv")', 'open("file:///home/ada/x.csv")', 'open("~ada/x.csv")']
PATHS += ['Path.home() / "x.csv"', 'os.path.expanduser("x")', "%env TABLE=$HOME/x"]
SECRETS = ['key = "AKIAABCDEFGHIJKLMNOP"', 'AWS_SECRET_ACCESS_KEY = "abc"', '{"password": "abc"}']
SECRETS += ['url = "https://ada:abc@example.com"', 'import os; os.environ["AWS_SECRET_ACCESS_KEY"] = "abcabcabc"']
SECRETS += ['os.environ["API_KEYS"] = "abc"', 'os.environ.setdefault("DB_PASSWORD", "abc")']
SECRETS += ['os.getenv("DB_PASSWD", "abc")', 'os.environ.update(API_KEY="abc")', "%env MY_TOKEN=abc"]
SECRETS += ["%set_env MY_TOKEN abc", 'headers = {"Authorization": "Bearer abcabcabcabc"}']
SECRETS += ['login("hf_abcabcabcabcabcabcabcabcabc")', 'x = "ghp_abcabcabcabcabcabcabcabcabcabc"']
SECRETS += ['x = "github_pat_abcabcabcabcabcabcabc"', 'x = "sk-proj-abcabcabcabcabcabcabc"']
SECRETS += ['x = "eyJhbcabcabcabc.eyJabcabc"', "# -----BEGIN RSA PRIVATE KEY-----"]


@pytest.mark.parametrize(
    ("source", "what"), [(one, "an absolute path") for one in PATHS] + [(one, "a secret") for one in SECRETS]
)
def test_paths_and_secrets_are_refused_without_being_told(source: str, what: str, tmp_path: Path) -> None:
    """An absolute path or a secret is refused with the number of its cell, and the message does not repeat it."""
    with pytest.raises(PreflightError, match=rf"cell 1 .* seems to hold {what}$") as failure:
        preflight.check(write(tmp_path, PARAMETERS, source))
    assert "abc" not in str(failure.value).removeprefix("a.ipynb")


FETCHES = ") installs, downloads or starts another program ("
COMMANDS = ["!ls", "files = !ls", "for name in names:\n    !rm {name}", "!!ls", "%system ls", "%sx ls", "%rm x"]
COMMANDS += ["%%sx\nls", "%%time\n!ls", "%pip install x", "os.system('ls')", "%%bash\nset -e\nls", "os.popen('ls')"]
COMMANDS += ["import subprocess, sys\nsubprocess.check_call([sys.executable, '-m', 'pip', 'install', 'x'])"]
COMMANDS += ["from urllib import request", "from urllib.request import urlopen", "import requests as r", "import boto3"]
COMMANDS += ["pd.read_csv('https://example.com/x.csv')", "datasets.fetch_openml('x')", "nltk.download('stopwords')"]


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("breakpoint()", "waits for a person (breakpoint)"),
        ("if wrong:\n    import pdb; pdb.set_trace()", "waits for a person (set_trace)"),
        ("%%time\nname = input('?')", "waits for a person (input)"),
        ("%debug", "waits for a person (run_line_magic)"),
        ("x = ", "is not valid Python (line 1)"),
        *((source, FETCHES) for source in COMMANDS),
    ],
)
def test_what_waits_for_a_person_or_fetches_is_refused(source: str, what: str, tmp_path: Path) -> None:
    """A cell that waits for a person, downloads or starts a program, or is not valid Python, is refused by number."""
    with pytest.raises(PreflightError, match=rf"^a.ipynb: cell 1 \(.*{re.escape(what)}"):
        preflight.check(write(tmp_path, PARAMETERS, source))


@pytest.mark.parametrize("tag", preflight.TAGS)
def test_a_deleted_tag_is_named(tag: str, tmp_path: Path) -> None:
    """A deleted tag is reported by name, because the scripts find the cells by their tags."""
    path = write(tmp_path)
    path.write_text(path.read_text().replace(f'"{tag}"', '"other"'))
    with pytest.raises(PreflightError, match=f"0 cells are tagged {tag}, not one"):
        preflight.check(path)


def test_a_renamed_parameter_is_named(tmp_path: Path) -> None:
    """A renamed parameter is reported by its old name, which scripts and schedules set."""
    renamed = PARAMETERS.replace("FOLDS =", "SPLITS =").replace("SEED =", "RANDOM_STATE =")
    with pytest.raises(PreflightError, match="the parameters cell lacks FOLDS, SEED, which scripts and schedules set"):
        preflight.check(write(tmp_path, renamed))


@pytest.mark.parametrize("function", preflight.PUBLISHING)
def test_a_removed_cell_of_publishing_is_named(function: str, tmp_path: Path) -> None:
    """A missing call of publishing is reported by name, because the run would end without error or version."""
    path = write(tmp_path)
    path.write_text(re.sub(rf"\b\w+\.{function}\(", "print(", path.read_text()))
    with pytest.raises(PreflightError, match=rf"no cell calls {function}\(…\)"):
        preflight.check(path)


def test_a_cell_that_may_fail_is_refused(tmp_path: Path) -> None:
    """A cell tagged raises-exception is refused, because a failed gate would not be noticed in Jupyter."""
    wrong = write(tmp_path, PARAMETERS, "evaluation.require(checks)", metadata={"tags": ["raises-exception"]})
    with pytest.raises(PreflightError, match=r"cell 1 .* is tagged raises-exception"):
        preflight.check(wrong)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "the file is empty"),
        ("{\n<<<<<<< HEAD\n}", "line 2 is the mark of an unfinished merge"),
        ("{}", "the file is not a notebook that Jupyter can open"),
        ("[]", "the file is not a notebook that Jupyter can open"),
        ("a = 1", "the file is not a notebook that Jupyter can open"),
        ("\x00\xff", "the file is not a notebook that Jupyter can open"),
    ],
)
@pytest.mark.parametrize("read", [preflight.check, preflight.read_parameters])
def test_a_file_that_is_no_notebook_is_told_in_one_line(
    content: str, what: str, read: Callable[[Path], object], tmp_path: Path
) -> None:
    """A file that is not a notebook is refused in one line, by the check and before a run."""
    (tmp_path / "a.ipynb").write_text(content, encoding="latin-1")
    with pytest.raises(PreflightError, match=f"^a.ipynb: {what}.*$"):
        read(tmp_path / "a.ipynb")


def test_a_notebook_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A notebook that does not exist is reported with its folder and name."""
    with pytest.raises(PreflightError, match=rf"^{tmp_path.name}/a.ipynb: cannot be read \(No such file"):
        preflight.read_parameters(tmp_path / "a.ipynb")


def test_the_mark_of_a_merge_inside_a_cell_is_refused(tmp_path: Path) -> None:
    """The mark of an unfinished merge in a cell is refused, although the file is a valid notebook."""
    with pytest.raises(PreflightError, match=r"cell 1 \(.*\) holds the mark of an unfinished merge"):
        preflight.read_parameters(write(tmp_path, PARAMETERS, "a = 1\n>>>>>>> theirs"))


def test_outputs_are_refused(tmp_path: Path) -> None:
    """A notebook with outputs is refused, and the message names the command that clears them."""
    for left in ({"execution_count": 1}, {"outputs": [new_output("stream", text="hello")]}):
        with pytest.raises(PreflightError, match="clear-output"):
            preflight.check(write(tmp_path, PARAMETERS, "1", **left))


def test_there_is_one_cell_of_parameters(tmp_path: Path) -> None:
    """A notebook without a cell tagged parameters is refused, because Papermill would add its own at the top."""
    nbformat.write(new_notebook(cells=[new_code_cell("1")]), tmp_path / "a.ipynb")
    for read in (preflight.check, preflight.read_parameters):
        with pytest.raises(PreflightError, match="0 cells are tagged parameters"):
            read(tmp_path / "a.ipynb")


def test_the_command_tells_all_mistakes_and_exits_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A person who checks a notebook gets all its mistakes in one line and exit code 1."""
    wrong = write(tmp_path, f"{PARAMETERS}\nN = len('')", 'password = "abc"')
    assert main(["check", "--only-read", str(wrong)]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert re.search(r"a.ipynb: line \d+ of the parameters cell", line)
    assert "seems to hold a secret" in line


@pytest.mark.slow
def test_the_whole_notebook_runs_on_a_small_sample(capfd: pytest.CaptureFixture[str]) -> None:
    """The check runs the notebook within 90 seconds, and writes its steps to stderr and nothing to stdout."""
    started = time.monotonic()
    assert main(["check"]) == 0
    written = capfd.readouterr()
    assert written.out == ""
    assert "==> search started" in written.err
    assert time.monotonic() - started < 90  # 12 seconds on a machine that does nothing else


@pytest.mark.slow
def test_a_notebook_that_does_not_run_says_why(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A notebook that fails on the small sample is refused, and stderr gives the reason."""
    (tmp_path / "empty.csv").write_text("CONTENT,CLASS\n")
    with pytest.raises(PreflightError, match="does not run on a small sample, for the reason above"):
        preflight.run(ROOT, tmp_path)
    assert "0 comments are too few to train on" in capfd.readouterr().err
