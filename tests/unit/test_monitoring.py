"""The rules, the dashboard and the page of scripts/monitoring agree with the code and are valid for promtool."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, reloader_of, without

from pmip.http.metrics import KINDS, Metrics
from pmip.model.artifact import Artifact
from pmip.store.objects import FolderStorage
from pmip.store.versions import ModelStore

FOLDER = ROOT / "scripts" / "monitoring"
PAGE, RULES = ((FOLDER / name).read_text() for name in ("README.md", "alerts.yml"))
ALERTS = {rule["alert"]: rule for rule in yaml.safe_load(RULES)["groups"][0]["rules"]}
PANELS = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]


@pytest.fixture
def metrics(tmp_path: Path, artifact: Artifact) -> Metrics:
    store = ModelStore(FolderStorage(tmp_path / "store"), "staging")
    assert artifact.metadata
    store.publish(replace(artifact, metadata=replace(artifact.metadata, training_data_id="20260101")))
    reloader = reloader_of(store, tmp_path)
    reloader.step()
    metrics = Metrics(reloader)
    metrics.answered("/predict", 200, 0.001)
    metrics.scored("20260101T000000Z", [0.1, 0.9])
    return metrics


def told(metrics: Metrics) -> dict[str, tuple[str, set[str]]]:
    families = {}
    for family in metrics._read.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels}
        families[name] = (family.type, labels - {"le"})
    return families


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table on the page whose first column has this heading."""
    [table] = re.findall(rf"^\| {heading} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()]


def test_the_page_names_every_metric_as_it_is(metrics: Metrics) -> None:
    """The page lists exactly the metrics that exist, each with its type and labels."""
    page = {name.strip("`"): (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels, _ in rows("metric")}
    assert page == told(metrics)


@pytest.mark.parametrize("label", ["reason", "kind"])
def test_the_page_explains_every_kind_of_fault(label: str) -> None:
    """The page explains exactly the values that each label for faults can have."""
    assert {row[0].strip("`") for row in rows(label)} == set(KINDS[label].split())


def test_every_alert_says_what_to_do_and_is_tried() -> None:
    """The page repeats the advice of each alert, and alerts_test.yml has a case for each alert."""
    page = {name.strip("`"): advice.replace("`", "") for name, advice in rows("alert")}
    assert page == {name: rule["annotations"]["description"] for name, rule in ALERTS.items()}
    assert set(re.findall(r'alertname="(\w+)"', (FOLDER / "alerts_test.yml").read_text())) == ALERTS.keys()


def test_every_panel_says_how_to_read_it() -> None:
    """Each panel of the dashboard has a description in whole sentences."""
    assert [panel["title"] for panel in PANELS if not panel["description"].endswith(".")] == []


def test_rules_and_dashboard_ask_for_metrics_that_exist(metrics: Metrics) -> None:
    """The rules and the dashboard use only metrics that exist, because an alert on any other would never fire."""
    families = told(metrics)
    names = families | {f"{name}_{part}": () for name in families for part in ("count", "bucket", "sum")}
    asked = set(re.findall(r"\bpmip_\w+", RULES + "".join(QUERIES)))
    assert asked - names.keys() == set()
    assert len(asked) > 8


def test_promtool_finds_no_fault(metrics: Metrics, tmp_path: Path) -> None:
    """The rules, the queries of the dashboard and the text of /metrics are valid for promtool, and each alert fires."""
    promtool = shutil.which("promtool")
    if promtool is None:
        without("PROMTOOL", "promtool is not installed; 'apt-get install prometheus' installs it")
    queries = [query.replace("$__rate_interval", "5m").replace("$job", "pmip") for query in QUERIES]
    panels = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "panels.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": panels}]}))
    for words, given in (
        (["check", "rules", FOLDER / "alerts.yml", tmp_path / "panels.yml"], b""),
        (["test", "rules", FOLDER / "alerts_test.yml"], b""),
        (["check", "metrics"], metrics.text()),
    ):
        ended = subprocess.run([promtool, *words], input=given, capture_output=True, timeout=60, check=False)
        assert (ended.returncode, ended.stderr) == (0, b""), ended.stdout
