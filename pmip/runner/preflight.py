"""Checks of the training notebook before it runs and before it is committed."""

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from IPython.core.inputtransformer2 import TransformerManager

from pmip.errors import PreflightError
from pmip.runner.parameters import KNOWN

SMALL_SAMPLE = 2  # files
QUICK = ("REPORT=short", "FOLDS=2")
ANY_MODEL = ("MIN_ACCURACY=0", "MIN_MCC=-1", "MIN_SPAM_CAUGHT=0")
MERGE_MARK = re.compile(r"^(?:<{7}|>{7})(?: |$)", re.MULTILINE)
# The path of one machine or one person: absolute, on a drive, or in a home folder, at the start of a string.
ABSOLUTE_PATH = re.compile(
    r"""["'(=\s](?:(?:file://)?~?/(?:home|Users|root|tmp|mnt|data|opt|var|etc|usr)\b|~(?:[a-z]\w*)?/|[A-Za-z]:[\\/])"""
    r"|\bPath\.home\(|\bexpanduser\(|%USERPROFILE%|\$\{?HOME\b"
)
# "token" is also a word of machine learning: TfidfVectorizer has token_pattern.
SECRET_NAME = r"(?:secret|passw(?:or)?d|token(?!_pattern|i[sz])|api_?key|access_?key|private_?key|credential)\w*"  # noqa: S105
SECRET = re.compile(
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|-----BEGIN [A-Z ]*PRIVATE KEY|://[^/\s:@]+:[^/\s@]+@"
    r"|\b(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|hf_\w{20,}|sk-[\w-]{20,}|xox[a-z]-[\w-]{10,}|eyJ[\w-]{10,}\.eyJ)"
    r"|(?i:\bbearer\s+[\w.~+/-]{8,})"
    rf"|(?i:{SECRET_NAME}[\"'\])]*\s*[=:]\s*[\"'][^\"'{{]+[\"'])"
    rf"|(?i:(?:setdefault|putenv|get|getenv)\(\s*[\"']\w*{SECRET_NAME}[\"']\s*,\s*[\"'][^\"'{{]+[\"'])"
    rf"|(?i:(?:%(?:set_)?env|\bexport)\s+\w*{SECRET_NAME}[\s=]+[^\s{{$]+)"
)
STOPS = ("breakpoint", "set_trace", "input")
CONNECTS = re.compile(  # modules that start programs or open connections; pmip reads the bucket by itself
    r"(?:subprocess|pip|socket|ftplib|requests|httpx|aiohttp|urllib3|urllib\.request|http\.client|boto3|s3fs|wget|gdown"
    r"|huggingface_hub|sklearn\.datasets\.fetch_\w+)(?:\..*)?"
)
STARTS_PROGRAM = re.compile(r"(?:(?:os|get_ipython\(\))\.)?(?:system|popen|getoutput\w*|spawn\w+|exec[lv]\w*)")
DOWNLOADS = re.compile(r"fetch_(?!newest)\w+|download|urlretrieve|load_dataset|snapshot_download|from_pretrained")
SHELL_MAGICS = ("system", "sx", "pip", "conda", "mamba", "uv", "bash", "sh", "script", "perl", "ruby")
FILE_MAGICS = ("cat", "cp", "ls", "mkdir", "mv", "rm")  # commands of the shell too
PARAMETERS_TAG, DATA_TAG, MODEL_TAG, RESULT_TAG = TAGS = ("parameters", "training-data", "model", "model-id")
PUBLISHING = ("decide", "publish")  # functions that the notebook has to call


def check(notebook: Path) -> None:
    """Check the notebook for a commit; raise `PreflightError` with all mistakes and their cells."""
    _require(notebook, lambda cells: [*_hinders_a_run(cells), *_hinders_a_commit(cells)])


def read_parameters(notebook: Path) -> dict[str, Any]:
    """Return the notebook's parameters and their defaults; raise `PreflightError` if papermill cannot run it."""
    cells = _require(notebook, lambda cells: list(_hinders_a_run(cells)))
    [cell] = _tagged(cells, PARAMETERS_TAG)
    return {name: ast.literal_eval(value) for name, value in _assigned(cell.source).items()}


def run(root: Path, sample: Path) -> None:
    """Run the whole notebook on a small sample, with a temporary data folder and without AWS; write its progress."""
    with TemporaryDirectory(prefix="pmip-") as folder:
        training = Path(folder) / "training" / "20260101"
        training.mkdir(parents=True)
        for file in sorted(sample.glob("*.csv"))[:SMALL_SAMPLE]:
            (training / file.name).write_bytes(file.read_bytes())
        settings = ["-u", "BUCKET", "-u", "AWS_BATCH_JOB_ID", "ENVIRONMENT=dev", f"DATA_DIR={folder}"]
        train = ["bash", str(root / "scripts" / "train.sh"), *QUICK, *ANY_MODEL]
        command = ["env", *settings, f"PYTHON={sys.executable}", *train]
        with subprocess.Popen(  # noqa: S603
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            for line in process.stderr or ():
                if not line.removeprefix("==> ").startswith("report: "):  # it is removed with the folder
                    sys.stderr.write(line)
        if process.returncode:
            raise PreflightError("the notebook does not run on a small sample, for the reason above")


def _require(notebook: Path, mistakes_of: Callable[[list[Any]], list[str]]) -> list[Any]:
    cells: list[Any] = []
    try:
        cells = nbformat.read(notebook, as_version=4).cells
        mistakes = mistakes_of(cells)
    except OSError as error:
        raise PreflightError(f"{notebook.parent.name}/{notebook.name}: cannot be read ({error.strerror})") from None
    except (ValueError, AttributeError, nbformat.ValidationError):
        mistakes = [_why_no_notebook(notebook.read_text(encoding="utf-8", errors="replace"))]
    if mistakes:
        raise PreflightError(f"{notebook.name}: " + "; ".join(mistakes))
    return cells


def _why_no_notebook(content: str) -> str:
    if not content.strip():
        return "the file is empty; 'git checkout -- FILE' restores the committed one"
    if mark := MERGE_MARK.search(content):
        line = content.count("\n", 0, mark.start()) + 1
        return f"line {line} is the mark of an unfinished merge; resolve the conflict, then save the notebook"
    return "the file is not a notebook that Jupyter can open; 'git checkout -- FILE' restores the committed one"


def _hinders_a_run(cells: list[Any]) -> Iterator[str]:
    yield from _not_once(cells, PARAMETERS_TAG)
    for cell in _tagged(cells, PARAMETERS_TAG):
        yield from _no_literals(cell.source)
    for where, cell in _named(cells):
        if MERGE_MARK.search(cell.source):
            yield f"{where} holds the mark of an unfinished merge"


def _hinders_a_commit(cells: list[Any]) -> Iterator[str]:
    if any(cell.get("outputs") or cell.get("execution_count") is not None for cell in cells):
        yield "it holds outputs; 'jupyter nbconvert --clear-output --inplace FILE' removes them"
    for where, cell in _named(cells):
        if "raises-exception" in _tags(cell):
            yield f"{where} is tagged raises-exception, which hides failures; remove the tag"
        for pattern, what in ((ABSOLUTE_PATH, "an absolute path"), (SECRET, "a secret")):
            if pattern.search(cell.source):
                yield f"{where} seems to hold {what}"
        if cell.cell_type == "code":
            for mistake in _bad_code(cell.source):
                yield f"{where} {mistake}"
    yield from _lacks(cells)


def _lacks(cells: list[Any]) -> Iterator[str]:
    """Yield a sentence for each tag, parameter and function that the scripts rely on and the notebook lacks."""
    for tag in TAGS:
        if tag != PARAMETERS_TAG:
            yield from _not_once(cells, tag)
    for cell in _tagged(cells, PARAMETERS_TAG):
        with suppress(SyntaxError):
            if missing := [name for name in KNOWN if name not in _assigned(cell.source)]:
                yield f"the parameters cell lacks {', '.join(missing)}, which scripts and schedules set by this name"
    called = {name for cell in cells if cell.cell_type == "code" for name in _called(cell.source)}
    for function in PUBLISHING:
        if function not in called:
            yield f"no cell calls {function}(…), so a run would not publish its model; restore the cell"


def _not_once(cells: list[Any], tag: str) -> Iterator[str]:
    if (number := len(_tagged(cells, tag))) != 1:
        yield (
            f"{number} cells are tagged {tag}, not one; in Jupyter, give this tag only to the cell that it names "
            "(right sidebar, 'Cell Tags')"
        )


def _tagged(cells: list[Any], tag: str) -> list[Any]:
    return [cell for cell in cells if tag in _tags(cell)]


def _named(cells: list[Any]) -> Iterator[tuple[str, Any]]:
    for number, cell in enumerate(cells, 1):
        yield f"cell {number} ({cell.get('id', '')})", cell


def _tags(cell: Any) -> list[str]:
    tags: list[str] = cell.metadata.get("tags", [])
    return tags


def _parsed(source: str) -> ast.Module:
    """Parse the source of a cell; a command such as !ls or %pip becomes a call."""
    return ast.parse(TransformerManager().transform_cell(source))


def _called(source: str) -> Iterator[str]:
    with suppress(SyntaxError):
        yield from (_name(node) for node in ast.walk(_parsed(source)) if isinstance(node, ast.Call))


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _bad_code(source: str) -> Iterator[str]:
    """Yield a sentence for what would wait for a person, start another program, or download something."""
    try:
        tree = _parsed(source)
    except SyntaxError as error:
        yield f"is not valid Python (line {error.lineno})"
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            yield from (
                _connects(name) for name in (module + each.name for each in node.names) if CONNECTS.fullmatch(name)
            )
        elif isinstance(node, ast.Call):
            yield from _bad_call(node)


def _bad_call(call: ast.Call) -> Iterator[str]:
    name, arguments = _name(call), [item.value for item in call.args if isinstance(item, ast.Constant)]
    first = str(arguments[0]) if arguments else ""
    if name in STOPS or (name == "run_line_magic" and first in ("debug", "pdb")):
        yield f"waits for a person ({name}), but in a scheduled run there is nobody"
    elif name in ("run_line_magic", "run_cell_magic") and first in (*SHELL_MAGICS, *FILE_MAGICS):
        yield _connects(f"%{first}")
    elif name == "run_cell_magic":  # such as %%time
        yield from _bad_code(str(arguments[2]))
    elif STARTS_PROGRAM.fullmatch(ast.unparse(call.func)) or DOWNLOADS.fullmatch(name):
        yield _connects(name)
    elif name.startswith("read_") and re.match(r"(?:https?|ftp|s3)://", first):
        yield _connects(f"{name} of an address")


def _connects(what: str) -> str:
    """Return the sentence for code that this check, and every run, must not run."""
    return (
        f"installs, downloads or starts another program ({what}); "
        "name packages in setup.py, and let the run read its data from the bucket"
    )


def _assigned(source: str) -> dict[str, ast.expr]:
    statements = (statement for statement in ast.parse(source).body if isinstance(statement, ast.Assign))
    return {ast.unparse(statement.targets[0]): statement.value for statement in statements}


def _no_literals(source: str) -> Iterator[str]:
    """Yield a sentence for each line of the parameters cell that Papermill cannot replace by a parameter."""
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        yield f"the parameters cell is not valid Python (line {error.lineno})"
        return
    for statement in statements:
        if not _is_literal(statement):
            yield f"line {statement.lineno} of the parameters cell is not NAME = literal"


def _is_literal(statement: ast.stmt) -> bool:
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=value) if name.isupper():
            try:
                ast.literal_eval(value)
            except ValueError:
                return False
            return True
    return False
