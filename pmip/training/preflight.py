"""What must hold of the training notebook before it is committed or runs as a job."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat

from pmip.errors import PreflightError

SMALL_SAMPLE = 2  # files
QUICK = ("REPORT=short", "FOLDS=2")
ANY_MODEL = ("MIN_ACCURACY=0", "MIN_MCC=-1", "MIN_SPAM_CAUGHT=0")
# A path from the root or the home of some machine, where a text begins.
ABSOLUTE_PATH = re.compile(r"""["'(=\s](?:~?/(?:home|Users|root|tmp|mnt|data|opt|var|etc|usr)\b|~/|[A-Za-z]:\\)""")
SECRET = re.compile(
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|-----BEGIN [A-Z ]*PRIVATE KEY|\bgh[pousr]_\w{20,}|://[^/\s:@]+:[^/\s@]+@"
    r"|(?i:secret|password|token|api_?key)\w*[\"']?\s*[=:]\s*[\"'][^\"']+[\"']"
)


def check(notebook: Path) -> None:
    """Read the notebook; raises `PreflightError` naming all that is wrong and the cells where it is."""
    cells = nbformat.read(notebook, as_version=4).cells
    mistakes = list(_mistakes(cells))
    if mistakes:
        raise PreflightError(f"{notebook.name}: " + "; ".join(mistakes))


def run(root: Path, sample: Path) -> None:
    """Run the whole notebook on a small sample, in a data folder of its own and without AWS."""
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


def _mistakes(cells: list[Any]) -> Iterator[str]:
    if any(cell.get("outputs") or cell.get("execution_count") is not None for cell in cells):
        yield "it holds outputs; 'jupyter nbconvert --clear-output --inplace' on it takes them out"
    parameters = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    if len(parameters) != 1:
        yield f"{len(parameters)} cells are tagged parameters, not one"
    for cell in parameters:
        yield from _no_literals(cell.source)
    for number, cell in enumerate(cells, 1):
        for pattern, what in ((ABSOLUTE_PATH, "an absolute path"), (SECRET, "a secret")):
            if pattern.search(cell.source):
                yield f"cell {number} ({cell.get('id', '')}) seems to hold {what}"


def _no_literals(source: str) -> Iterator[str]:
    """Yield a sentence for each line of the parameters cell that Papermill could not replace as it is meant."""
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        yield f"the parameters cell is no Python (line {error.lineno})"
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
