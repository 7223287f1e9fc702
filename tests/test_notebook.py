"""The notebook: the same from Jupyter and from papermill, with a report that tells nothing of the machine."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT, SAMPLE

from pmip.local_model import LocalModel
from pmip.model_store import is_model_id
from pmip.packing import unpack

NOTEBOOK = ROOT / "notebooks" / "model-training.ipynb"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train once, by the script, in dev and without AWS; the folder that the run wrote."""
    folder = tmp_path_factory.mktemp("data")
    command = ["bash", str(ROOT / "scripts" / "train.sh"), "FOLDS=2", "MODEL_ID=20260101T000000Z"]
    run = subprocess.run(
        command, env=os.environ | {"DATA_DIR": str(folder)}, capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == "20260101T000000Z\n"
    return folder


def test_its_outputs_are_stripped() -> None:
    """Outputs belong to reports, not into git."""
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in cells)


def test_one_cell_holds_the_parameters_as_literals() -> None:
    """Papermill replaces literals; what is computed in that cell would keep the old value."""
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    [cell] = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    for line in cell.source.splitlines():
        assert re.fullmatch(r"#.*|[A-Z_]+ = (\"\"|[\d.]+|\[[\d., ]+\])(  #.*)?", line), line


def test_autoreload_comes_before_all_other_code() -> None:
    """An edit of the package has to reach the running kernel."""
    first = next(cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code")
    assert first.source == "%load_ext autoreload\n%autoreload 2"


def test_the_local_model_is_what_the_run_describes(data_dir: Path) -> None:
    """data/model.pkl passes every check that the API makes, and its lineage is complete."""
    artifact = LocalModel(data_dir).fetch()
    unpack(artifact)
    metadata = artifact.metadata
    assert metadata
    assert (metadata.model_id, metadata.ENVIRONMENT, metadata.training_data_id) == ("20260101T000000Z", "dev", "sample")
    assert [item["name"] for item in metadata.training_files] == [path.name for path in SAMPLE]
    assert sum(item["rows"] for item in metadata.training_files) == 554
    assert metadata.parameters["FOLDS"] == 2
    assert metadata.metrics["held_out"]["accuracy"] > 0.8


def test_the_report_tells_nothing_of_the_machine(data_dir: Path) -> None:
    """No path, address or host of this machine stands in the notebook or its page."""
    report = "".join(path.read_text() for path in data_dir.glob("model-training-*"))
    for secret in (str(ROOT), str(data_dir), sys.prefix, str(Path.home()) + "/", "127.0.0.1", "localhost"):
        assert secret not in report


def test_the_page_asks_no_other_host_for_anything(data_dir: Path) -> None:
    """The HTML opens offline: no script, style sheet, image or frame from elsewhere."""
    page = (data_dir / "model-training-20260101T000000Z.html").read_text()
    assert not re.findall(r"""(?:src|href)=["']https?://[^"']*|import\(["']https?:""", page)
    assert "How good is it?" in page


def test_the_two_examples_are_scored_as_the_api_scores_them(data_dir: Path) -> None:
    """The report shows the classes 1 and 0 of the README's comments."""
    cells = nbformat.read(data_dir / "model-training-20260101T000000Z.ipynb", as_version=4).cells
    [cell] = [cell for cell in cells if "served.classes(examples)" in cell.source]
    assert re.findall(r"characterization\s+0|free stuff\s+1", cell.outputs[0].data["text/plain"])


def test_it_gives_the_same_model_from_jupyter(data_dir: Path, tmp_path: Path) -> None:
    """Run by Jupyter in notebooks/, without papermill, the figures and golden answers are those of the script."""
    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--output-dir", str(tmp_path)]
    source = nbformat.read(NOTEBOOK, as_version=4)
    for cell in source.cells:
        cell.source = cell.source.replace("FOLDS = 5", "FOLDS = 2")
    copy = NOTEBOOK.with_name(f".{tmp_path.name}.ipynb")
    try:
        nbformat.write(source, copy)
        environ = os.environ | {"DATA_DIR": str(tmp_path)}
        subprocess.run([*command, str(copy)], env=environ, capture_output=True, timeout=120, check=True)
    finally:
        copy.unlink()
    here, there = (LocalModel(folder).fetch().metadata for folder in (tmp_path, data_dir))
    assert here
    assert there
    assert is_model_id(here.model_id)
    assert (here.golden, here.metrics, here.parameters) == (there.golden, there.metrics, there.parameters)


def test_without_a_bucket_the_newest_local_training_data_is_read(tmp_path: Path) -> None:
    """data/training/ comes before the sample."""
    for day, files in (("20250101", SAMPLE[:1]), ("20260101", SAMPLE[1:3])):
        (tmp_path / "training" / day).mkdir(parents=True)
        for path in files:
            shutil.copy(path, tmp_path / "training" / day)
    command = ["bash", str(ROOT / "scripts" / "train.sh"), "FOLDS=2"]
    subprocess.run(command, env=os.environ | {"DATA_DIR": str(tmp_path)}, capture_output=True, timeout=120, check=True)
    metadata = json.loads((tmp_path / "metadata.json").read_text())
    assert metadata["training_data_id"] == "20260101"
    assert [item["rows"] for item in metadata["training_files"]] == [111, 111]
