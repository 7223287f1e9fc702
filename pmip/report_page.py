"""The report of a run as a page: it reads without the code, which is folded but at hand, and asks no other host."""

import logging
from pathlib import Path

from jinja2 import DictLoader
from nbconvert import HTMLExporter
from traitlets.config import Config

# A progress bar overwrites itself by carriage returns, which a page would show line by line.
LAST_STATE_OF_BARS = Config({"CoalesceStreamsPreprocessor": {"enabled": True}})
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

{%- block input -%}
<details class="code"><summary>code</summary>
{{ super() }}
</details>
{%- endblock input -%}
"""


def to_html(report: Path) -> str:
    """Render an executed notebook as a page."""
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
