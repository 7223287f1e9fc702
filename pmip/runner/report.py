"""The report of a training run: the executed notebook, its HTML page, and where both are stored."""

import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from tempfile import mkstemp

import nbformat
from jinja2 import DictLoader
from nbconvert import HTMLExporter
from traitlets.config import Config

from pmip.config import Settings
from pmip.errors import SettingsError, StorageError
from pmip.store.objects import S3Storage
from pmip.store.versions import ModelStore, next_model_id

# A progress bar overwrites itself with carriage returns; without this option a page shows each state on its own line.
LAST_STATE_OF_BARS = Config({"CoalesceStreamsPreprocessor": {"enabled": True}})
KEPT_REPORTS = 20  # in the data folder
DAY = 24 * 3600  # seconds; every run is shorter
OUTSIDE = ("require_js_url", "jquery_url", "mathjax_url", "mermaid_js_url", "mermaid_layout_elk_js_url")
TEMPLATE = """
{%- extends 'lab/index.html.j2' -%}

{%- block html_head_css -%}
{{ super() }}
<style>
  body.jp-Notebook { max-width: 1100px; margin: 0 auto; padding: 2rem 1rem; }
  .jp-InputPrompt, .jp-OutputPrompt, .jp-InputArea-prompt, .jp-OutputArea-prompt { display: none; }
  .jp-RenderedHTMLCommon table { margin-left: 0; }
  .jp-RenderedHTMLCommon td { overflow-wrap: anywhere; min-width: 7.5em; }
  .jp-RenderedHTMLCommon :is(td, th) { text-align: left !important; }
  .jp-OutputArea-output[data-mime-type*="stderr"] { background: none; color: #767676; }
  .jp-OutputArea-output img { max-width: 100%; height: auto; }
  .jp-CodeCell.jp-mod-noOutputs:not(:has(details[open])) { display: inline-block; width: 4.5rem; }
  details.code > summary { cursor: pointer; color: #767676; font: 12px sans-serif; width: fit-content; }
  .jp-RenderedMarkdown.jp-OutputArea-output { padding: 0.75em 5px 0; }
  .jp-OutputArea-output:is(.jp-RenderedHTML, .jp-RenderedText) { overflow-x: auto; padding-left: 5px; }
  @media (max-width: 640px) {
    body.jp-Notebook { padding: 1rem 0; }
    .jp-RenderedHTMLCommon td { min-width: 4.5em; }
    .jp-RenderedImage { overflow-x: auto; }
    .jp-OutputArea-output img { max-width: none; max-height: 22rem; }
  }
  @media print { details.code { display: none; } }
</style>
{%- endblock html_head_css -%}

{%- block data_png scoped -%}
<div class="jp-RenderedImage jp-OutputArea-output {{ extra_class }}">
<img src="data:image/png;base64,{{ output.data['image/png'] | escape_html }}"
{%- set alternative = output | get_metadata('alt', 'image/png') -%}
{%- if alternative %} alt="{{ alternative | escape_html }}"{% endif %}>
</div>
{%- endblock data_png -%}

{%- block input -%}
<details class="code"><summary>code</summary>
{{ super() }}
</details>
{%- endblock input -%}
"""


def to_html(report: Path) -> str:
    """Return an executed notebook as an HTML page."""
    exporter = HTMLExporter(
        config=LAST_STATE_OF_BARS,
        extra_loaders=[DictLoader({"report.html.j2": TEMPLATE})],
        template_file="report.html.j2",
        **dict.fromkeys(OUTSIDE, ""),
    )
    exporter.log.setLevel(logging.ERROR)
    html: str
    html, _resources = exporter.from_filename(str(report))
    return html


log = logging.getLogger(__name__)


class RunReport:
    """The file in the data folder that papermill writes after each cell."""

    def __init__(self, settings: Settings, folder: Path, model_id: str) -> None:
        self._settings = settings
        self.path = _new_file(folder, model_id)

    def keep(self, model_id: str, *, has_model: bool) -> str:
        """Write the page and, outside dev, upload the report; return its address, or a blank if it is incomplete.

        Failures are only logged, so that a problem with the report never loses a model.
        """
        if not _is_whole(self.path):
            self.path.unlink()
            return ""
        report = _finished(self.path, model_id)
        page = to_html(report)
        html = report.with_suffix(".html")
        try:
            html.write_text(page, encoding="utf-8")
        except OSError as error:
            html.unlink(missing_ok=True)
            log.warning("the report's page was not written: %s", not_writable(self._settings.data_dir, error))
        _clear_old(report.parent)
        files = {".ipynb": report.read_bytes(), ".html": page.encode()}
        return self._uploaded(model_id, files, beside_model=has_model) or str(self._settings.data_dir / html.name)

    def _uploaded(self, model_id: str, files: dict[str, bytes], *, beside_model: bool) -> str | None:
        if self._settings.environment == "dev" or not self._settings.bucket:
            return None
        store = ModelStore(S3Storage(self._settings.bucket), self._settings.environment)
        try:
            return store.publish_report(model_id, files, beside_model=beside_model)
        except StorageError as error:
            log.warning("the report was not uploaded: %s", error)
        return None


def not_writable(folder: Path, error: OSError) -> str:
    """Return a message with the folder in which the report cannot be written, and the reason."""
    return f"DATA_DIR={folder}: the report cannot be written there ({error.strerror})"


def _new_file(folder: Path, model_id: str) -> Path:
    """Create the file of a running notebook; it gets its final name when the model id is final."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = mkstemp(dir=folder, prefix=f"running-{model_id}-", suffix=".ipynb")
    except OSError as error:
        raise SettingsError(not_writable(folder, error)) from None
    os.fchmod(handle, 0o644)
    os.close(handle)
    return Path(name)


def _is_whole(report: Path) -> bool:
    """Return whether a report is complete: the run may have stopped, or the disk may have filled up, while writing."""
    try:
        nbformat.read(report, as_version=4)
    except ValueError:
        return False
    return True


def _finished(running: Path, model_id: str) -> Path:
    """Give a report its final name, or the next free one, because a failed run of the same second may have it."""
    while True:
        report = running.with_name(f"model-training-{model_id}.ipynb")
        try:
            report.hardlink_to(running)
        except FileExistsError:
            model_id = next_model_id(model_id)
        else:
            running.unlink()
            return report


def _clear_old(folder: Path) -> None:
    """Delete all but the newest reports of a folder, and the files of killed runs."""
    with suppress(OSError):
        reports = sorted(folder.glob("model-training-*.ipynb"), key=lambda path: path.stat().st_mtime)
        for report in reports[:-KEPT_REPORTS]:
            report.with_suffix(".html").unlink(missing_ok=True)
            report.unlink(missing_ok=True)
        for left in folder.glob("running-*.ipynb"):
            if left.stat().st_mtime < time.time() - DAY:
                left.unlink(missing_ok=True)
