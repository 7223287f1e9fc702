"""Checks of the training notebook before it runs and before it is committed."""

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from IPython.core.inputtransformer2 import TransformerManager

from pmip.errors import PreflightError

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
SHELL_CALLS = ("system", "getoutput", "getoutput_detailed")
SHELL_MAGICS = ("system", "sx", "pip", "conda", "cat", "cp", "ls", "mkdir", "mv", "rm")
SCRIPT_MAGICS = ("bash", "sh", "script")


def check(notebook: Path) -> None:
    """Check the notebook for a commit; raise `PreflightError` with all mistakes and their cells."""
    _require(notebook, lambda cells: [*_hinders_a_run(cells), *_hinders_a_commit(cells)])


def read_parameters(notebook: Path) -> dict[str, Any]:
    """Return the notebook's parameters and their defaults; raise `PreflightError` if papermill cannot run it."""
    cells = _require(notebook, lambda cells: list(_hinders_a_run(cells)))
    [cell] = [cell for cell in cells if "parameters" in _tags(cell)]
    statements = (statement for statement in ast.parse(cell.source).body if isinstance(statement, ast.Assign))
    return {ast.unparse(statement.targets[0]): ast.literal_eval(statement.value) for statement in statements}


def run(root: Path, sample: Path) -> None:
    """Run the whole notebook on a small sample, with a temporary data folder and without AWS."""
    with TemporaryDirectory(prefix="pmip-") as folder:
        training = Path(folder) / "training" / "20260101"
        training.mkdir(parents=True)
        for file in sorted(sample.glob("*.csv"))[:SMALL_SAMPLE]:
            (training / file.name).write_bytes(file.read_bytes())
        settings = ["-u", "BUCKET", "-u", "AWS_BATCH_JOB_ID", "ENVIRONMENT=dev", f"DATA_DIR={folder}"]
        train = ["bash", str(root / "scripts" / "train.sh"), *QUICK, *ANY_MODEL]
        command = ["env", *settings, f"PYTHON={sys.executable}", *train]
        outcome = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if outcome.returncode:
            raise PreflightError(f"the notebook does not run on a small sample: {outcome.stderr.strip()[-2000:]}")


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
    parameters = [cell for cell in cells if "parameters" in _tags(cell)]
    if len(parameters) != 1:
        yield (
            f"{len(parameters)} cells are tagged parameters, not one; in Jupyter, give this tag only to the cell "
            "that sets the parameters (right sidebar, 'Cell Tags')"
        )
    for cell in parameters:
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
            for mistake in _bad_calls(cell.source):
                yield f"{where} {mistake}"


def _named(cells: list[Any]) -> Iterator[tuple[str, Any]]:
    for number, cell in enumerate(cells, 1):
        yield f"cell {number} ({cell.get('id', '')})", cell


def _tags(cell: Any) -> list[str]:
    tags: list[str] = cell.metadata.get("tags", [])
    return tags


def _bad_calls(source: str) -> Iterator[str]:
    """Yield a sentence for each call that would wait for a person, or would hide that a command failed."""
    try:
        tree = ast.parse(TransformerManager().transform_cell(source))  # turns !command and %magic into calls
    except SyntaxError as error:
        yield f"is not valid Python (line {error.lineno})"
        return
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        arguments: list[Any] = [item.value for item in call.args if isinstance(item, ast.Constant)]
        if name in STOPS or (name == "run_line_magic" and arguments[0] in ("debug", "pdb")):
            yield f"waits for a person ({name}), but in a scheduled run there is nobody"
        elif name == "run_cell_magic" and arguments[0] not in (*SCRIPT_MAGICS, *SHELL_MAGICS):
            yield from _bad_calls(arguments[2])  # such as %%time
        elif _hides_failure(call, name, arguments):
            yield "runs a shell command and ignores its failure; use subprocess.run([…], check=True)"


def _hides_failure(call: ast.Call, name: str, arguments: list[Any]) -> bool:
    """Return whether a call runs a shell command and ignores its failure."""
    if name in SHELL_CALLS:
        of = call.func.value if isinstance(call.func, ast.Attribute) else None
        return isinstance(of, ast.Call) or getattr(of, "id", "") == "os"  # get_ipython().system(…), os.system(…)
    if name == "run_cell_magic" and arguments[0] in SCRIPT_MAGICS:
        _magic, options, script = arguments
        return "--no-raise-error" in options or "--bg" in options or not re.match(r"\s*set -\w*e", script)
    return name in ("run_line_magic", "run_cell_magic") and arguments[0] in SHELL_MAGICS


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
