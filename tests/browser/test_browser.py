"""The Swagger page in a real browser, as a caller uses it: Debian's Chromium, or whichever is installed."""

import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api import running_api
from conftest import without
from nginx import running_nginx
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from pmip.model.artifact import Artifact
from pmip.store.versions import LocalModel

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# The last one keeps the browser itself, too, from asking anybody else.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
FLAGS += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"]
KEY = "a-key-of-the-tests"
AXE = "axe-core@4.10.3"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start the browser; without one skip, or fail when REQUIRE_BROWSER=1."""
    if CHROMIUM is None:
        reason = "no Chromium is installed; 'apt-get install chromium' installs it"
        without("BROWSER", reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def port(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("api")
    LocalModel(folder).save(artifact)
    with running_api(folder) as (port, _):
        yield port


class Caller:
    """Somebody at the browser; what the browser asked and complained of is remembered."""

    def __init__(self, page: Page) -> None:
        self.page, self.asked, self.complaints = page, list[str](), list[str]()
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("requestfailed", lambda request: self.complaints.append(request.url))
        page.on("console", self._hear)

    def _hear(self, message: ConsoleMessage) -> None:
        """Remember what the browser's console says, but for the answers that are meant to be errors."""
        if message.type == "error" and "the server responded with a status" not in message.text:
            self.complaints.append(message.text)

    def open(self, address: str) -> None:
        self.address = address
        self.page.goto(address)
        self.page.get_by_role("button", name="/predict").first.click()
        self.page.get_by_role("button", name="Try it out").click()

    def execute(self) -> tuple[str, Any]:
        self.page.get_by_role("button", name="Execute").click()
        answer = self.page.locator(".live-responses-table .response").first
        expect(answer).to_be_visible()
        expect(self.page.locator(".loading-container")).to_have_count(0)
        status = answer.locator(".response-col_status").inner_text().split()[0]
        return status, json.loads(answer.locator(".highlight-code pre, pre.microlight").first.inner_text())

    def authorize(self, key: str) -> None:
        self.page.locator(".auth-wrapper").get_by_role("button", name="Authorize").first.click()
        if self.page.get_by_role("button", name="Logout").count():
            self.page.get_by_role("button", name="Logout").click()
        self.page.locator(".auth-container input").fill(key)
        self.page.locator(".auth-container").get_by_role("button", name="Authorize").click()
        self.page.locator(".auth-container").get_by_role("button", name="Close").click()


@pytest.fixture
def caller(browser: Browser) -> Iterator[Caller]:
    """Sit down at a fresh window; in the end, nobody else was asked and nothing broke."""
    with browser.new_context() as context:
        caller = Caller(context.new_page())
        yield caller
    assert caller.asked
    assert {url for url in caller.asked if not url.startswith((caller.address, "data:"))} == set()
    assert caller.complaints == []


def test_a_caller_tries_it_out_and_reads_the_answer(caller: Caller, port: int) -> None:
    """The example has the README's answer, each type its own, a mistake its message; and no key is asked for."""
    caller.open(f"http://127.0.0.1:{port}/")
    assert caller.page.get_by_role("button", name="Authorize").count() == 0
    assert caller.execute() == ("200", {"result": [{"class": 1}, {"class": 0}]})
    caller.page.locator(".parameters select").last.select_option("probability")
    status, body = caller.execute()
    assert (status, [max(item["probability"]) > 0.5 for item in body["result"]]) == ("200", [True, True])
    caller.page.locator("textarea").fill('{"comments": ["Subscribe to my channel, free gift cards!"]}')
    caller.page.locator(".parameters select").last.select_option("explanation")
    status, body = caller.execute()
    assert (status, body["result"][0]["class"]) == ("200", 1)
    assert body["result"][0]["contributions"]
    caller.page.locator("textarea").fill('{"comments": "not a list"}')
    assert caller.execute() == ("400", {"message": "'comments' must be a list of at least one text"})


def test_with_keys_on_the_authorize_button_lets_in(caller: Caller, artifact: Artifact, tmp_path: Path) -> None:
    """Without a key the page shows the refusal, with the wrong one too, and with the right one the answer."""
    LocalModel(tmp_path).save(artifact)
    with running_api(tmp_path, API_KEYS=f"another,{KEY}") as (port, _):
        caller.open(f"http://127.0.0.1:{port}/")
        refused = ("401", {"message": "send one of the API keys in the header X-API-Key or as Authorization: Bearer"})
        assert caller.execute() == refused
        caller.authorize("a-wrong-key")
        assert caller.execute() == refused
        caller.authorize(KEY)
        assert caller.execute() == ("200", {"result": [{"class": 1}, {"class": 0}]})


def test_below_a_path_the_page_works(caller: Caller, artifact: Artifact, tmp_path: Path) -> None:
    """Page, document, styles and answers all come from below URL_PREFIX, which this proxy leaves in the path."""
    LocalModel(tmp_path).save(artifact)
    with running_api(tmp_path, URL_PREFIX="/pre") as (port, _), running_nginx(tmp_path, port) as front:
        caller.open(f"http://127.0.0.1:{front}/pre/")
        assert caller.execute() == ("200", {"result": [{"class": 1}, {"class": 0}]})
        assert f"http://127.0.0.1:{front}/pre/predict?type=class&top=100" in caller.asked


def test_the_page_fits_a_telephone(browser: Browser, port: int) -> None:
    """Nothing is wider than the screen, no path is broken into pieces, and the route that scores comes first."""
    with browser.new_context(viewport={"width": 390, "height": 844}, is_mobile=True) as context:
        caller = Caller(context.new_page())
        caller.open(f"http://127.0.0.1:{port}/")
        assert caller.execute()[0] == "200"
        paths = caller.page.locator(".opblock-summary-path")
        assert paths.first.inner_text().strip() == "/predict"
        assert max(box["height"] for box in (path.bounding_box() for path in paths.all()) if box) < 32
        assert caller.page.evaluate("document.documentElement.scrollWidth") == 390


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the script that looks for barriers; where npm cannot get it skip, or fail when REQUIRE_AXE=1."""
    folder = tmp_path_factory.mktemp("axe")
    npm = shutil.which("npm")
    if npm is None:
        without("AXE", "npm is not installed; 'apt-get install npm' installs it")
    pack = subprocess.run([npm, "pack", AXE], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    if pack.returncode:
        without("AXE", f"axe-core cannot be got: {pack.stderr.strip()}")
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        archive.extract("package/axe.min.js", folder, filter="data")
    return (folder / "package" / "axe.min.js").read_text(encoding="utf-8")


def test_the_page_has_no_barriers(browser: Browser, axe: str, artifact: Artifact, tmp_path: Path) -> None:
    """axe-core finds nothing serious, whatever of the page is open."""
    LocalModel(tmp_path).save(artifact)
    with running_api(tmp_path, API_KEYS=KEY) as (port, _), browser.new_context() as context:
        caller = Caller(context.new_page())
        caller.open(f"http://127.0.0.1:{port}/")
        caller.page.evaluate(axe)
        found = barriers(caller.page)
        assert caller.execute()[0] == "401"
        found += barriers(caller.page)
        caller.page.locator(".auth-wrapper").get_by_role("button", name="Authorize").first.click()
        found += barriers(caller.page)
        caller.page.locator(".auth-container").get_by_role("button", name="Close").click()
        caller.authorize(KEY)
        assert caller.execute()[0] == "200"
        for path in ("/model-info", "/metrics", "/readiness", "/healthcheck"):
            caller.page.get_by_role("button", name=path).first.click()
        found += barriers(caller.page)
        assert caller.page.title() == "pmip: spam or not?"
    assert found == []
    assert caller.complaints == []


def barriers(page: Page) -> list[str]:
    expect(page.locator(".loading-container, .opblock-loading-animation")).to_have_count(0)
    violations = page.evaluate("axe.run()")["violations"]
    sys.stdout.write(f"\naxe: {[(one['impact'], one['id']) for one in violations]}\n")
    return [
        f"{one['id']}: {node['html']}"
        for one in violations
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


CALL = """async ([address, key]) => {
  const headers = {"Content-Type": "application/json", "X-API-Key": key};
  try {
    const answer = await fetch(address, {method: "POST", headers, body: '{"comments": ["hello"]}'});
    return [answer.status, answer.headers.get("X-Model-Id"), Boolean(answer.headers.get("X-Request-Id"))];
  } catch (error) {
    return error.name;
  }
}"""


def test_a_page_of_another_origin_calls_only_if_it_is_let_in(
    browser: Browser, artifact: Artifact, port: int, tmp_path: Path
) -> None:
    """CORS_ORIGINS names who may; nobody else may, nor anybody by default."""
    LocalModel(tmp_path).save(artifact)
    friend, stranger = f"http://127.0.0.1:{port}", f"http://localhost:{port}"  # one server, but two origins
    with running_api(tmp_path, CORS_ORIGINS=friend, API_KEYS=KEY) as (api, _), browser.new_context() as context:
        page, results = context.new_page(), []
        for origin, called, key in (
            (friend, api, KEY),
            (stranger, api, KEY),
            (stranger, port, KEY),
            (friend, api, "wrong"),
        ):
            page.goto(f"{origin}/healthcheck")
            results.append(page.evaluate(CALL, [f"http://127.0.0.1:{called}/predict", key]))
    assert results == [[200, "local", True], "TypeError", "TypeError", [401, None, True]]
