"""People use the Swagger page and /try in a real browser: Debian's Chromium, or whichever is installed."""

import json
import math
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api import ask, running_api
from conftest import SAMPLE, without
from nginx import running_nginx
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline

from pmip.model.artifact import Artifact, Metadata, pack
from pmip.store.versions import LocalModel
from pmip.training.comments import read_comments
from pmip.training.data import local_files

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# The last flag keeps the browser itself from calling other hosts.
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
    """A person at the browser, whose requests and complaints are recorded."""

    def __init__(self, page: Page) -> None:
        self.page, self.asked, self.complaints = page, list[str](), list[str]()
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("requestfailed", lambda request: self.complaints.append(request.url))
        page.on("console", self._hear)

    def _hear(self, message: ConsoleMessage) -> None:
        """Record errors of the browser's console, except for error statuses, which tests cause on purpose."""
        if message.type == "error" and "the server responded with a status" not in message.text:
            self.complaints.append(message.text)

    def visit(self, address: str, page: str = "") -> None:
        self.address = address
        self.page.goto(address + page)

    def open(self, address: str) -> None:
        self.visit(address)
        self.page.get_by_role("button", name="/predict").first.click()
        self.page.get_by_role("button", name="Try it out").click()

    def execute(self) -> tuple[str, Any]:
        self.page.get_by_role("button", name="Execute").click()
        answer = self.page.locator(".live-responses-table .response").first
        expect(answer).to_be_visible()
        expect(self.page.locator(".loading-container")).to_have_count(0)
        status = answer.locator(".response-col_status").inner_text().split()[0]
        return status, json.loads(answer.locator(".highlight-code pre, pre.microlight").first.inner_text())

    def score(self, comment: str) -> str:
        """Score a comment at /try without a mouse, and return the text that a screen reader then reads."""
        self.page.get_by_label("Comment").fill(comment)
        with self.page.expect_response("**/predict?type=probability"):
            self.page.keyboard.press("Control+Enter")
        expect(self.page.get_by_role("status")).not_to_be_empty()
        return self.page.get_by_role("status").inner_text()

    def words(self) -> dict[str, float]:
        """Return each word at /try with its effect on the log-odds."""
        words = self.page.locator("#words > *").all()
        return {word.inner_text(): float(word.get_attribute("title").split()[0].replace("−", "-")) for word in words}

    def authorize(self, key: str) -> None:
        self.page.locator(".auth-wrapper").get_by_role("button", name="Authorize").first.click()
        if self.page.get_by_role("button", name="Logout").count():
            self.page.get_by_role("button", name="Logout").click()
        self.page.locator(".auth-container input").fill(key)
        self.page.locator(".auth-container").get_by_role("button", name="Authorize").click()
        self.page.locator(".auth-container").get_by_role("button", name="Close").click()


@pytest.fixture
def caller(browser: Browser) -> Iterator[Caller]:
    """Open a new window; at the end, check that the browser called only the API and reported no error."""
    with browser.new_context() as context:
        caller = Caller(context.new_page())
        yield caller
    assert caller.asked
    assert {url for url in caller.asked if not url.startswith((caller.address, "data:"))} == set()
    assert caller.complaints == []


def test_a_caller_tries_it_out_and_reads_the_answer(caller: Caller, port: int) -> None:
    """A caller on the Swagger page gets the answer of each type, and the message of a mistake, without a key."""
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
    """A caller on the Swagger page gets 401 without a key or with a wrong one, and the answer with the right one."""
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
    """Behind a proxy that keeps URL_PREFIX in the path, the Swagger page loads and its calls are answered."""
    LocalModel(tmp_path).save(artifact)
    with running_api(tmp_path, URL_PREFIX="/pre") as (port, _), running_nginx(tmp_path, port) as front:
        caller.open(f"http://127.0.0.1:{front}/pre/")
        assert caller.execute() == ("200", {"result": [{"class": 1}, {"class": 0}]})
        assert f"http://127.0.0.1:{front}/pre/predict?type=class&top=100" in caller.asked


def test_the_page_fits_a_telephone(browser: Browser, port: int) -> None:
    """On a telephone the Swagger page fits the screen, breaks no path into lines and shows /predict first."""
    with browser.new_context(viewport={"width": 390, "height": 844}, is_mobile=True) as context:
        caller = Caller(context.new_page())
        caller.open(f"http://127.0.0.1:{port}/")
        assert caller.execute()[0] == "200"
        paths = caller.page.locator(".opblock-summary-path")
        assert paths.first.inner_text().strip() == "/predict"
        assert max(box["height"] for box in (path.bounding_box() for path in paths.all()) if box) < 32
        assert caller.page.evaluate("document.documentElement.scrollWidth") == 390


TRIED = "Check out my channel, I love this song"
MIXED = "我喜欢这首歌 <img src=x onerror=alert(1)> 😀👍 fin"


def log_odds(comments: list[str], port: int) -> list[float]:
    rows = ask(port, "/predict?type=probability", {"comments": comments}).body["result"]
    return [math.log((row["probability"][1] or 0.001) / (row["probability"][0] or 0.001)) for row in rows]


@pytest.mark.parametrize("classifier", ["linear", "forest"])
def test_a_person_sees_what_each_word_does(
    classifier: str, caller: Caller, artifact: Artifact, forest: Artifact, tmp_path: Path
) -> None:
    """A person at /try sees any model's probability of spam, and how each word changes the log-odds."""
    LocalModel(tmp_path).save({"linear": artifact, "forest": forest}[classifier])
    with running_api(tmp_path, TRUST_PICKLES="true", WEB_CONCURRENCY="1") as (port, _):
        caller.visit(f"http://127.0.0.1:{port}/", "try")
        answer = caller.score(TRIED)
        words = TRIED.split()
        whole, *others = log_odds([TRIED, *(" ".join(words[:i] + words[i + 1 :]) for i in range(len(words)))], port)
    spam = 1 / (1 + math.exp(-whole))
    assert answer == f"{'Spam' if spam > 0.5 else 'Not spam'}: the probability of spam is {100 * spam:.1f}\u00a0%."
    effects = {word: whole - other for word, other in zip(words, others, strict=True)}
    assert caller.words() == pytest.approx(effects, abs=0.0051)
    assert caller.page.locator("mark.for").count() > 1 < caller.page.locator("#words mark.against").count()
    strongest = [row.split("\t") for row in caller.page.locator("#strongest").inner_text().splitlines()]
    assert strongest[0][0] == max(effects, key=lambda word: abs(effects[word]))
    assert caller.page.get_by_role("meter").evaluate("bar => bar.value") == pytest.approx(spam)


@pytest.fixture(scope="module")
def forest() -> Artifact:
    comments = read_comments(local_files(SAMPLE[:1]))
    model = make_pipeline(TfidfVectorizer(), RandomForestClassifier(30, random_state=1))
    return pack(model.fit(comments["CONTENT"], comments["CLASS"]), Metadata("20260101T000000Z", "staging"))


def test_any_text_is_split_into_words_and_shown_as_text(caller: Caller, port: int) -> None:
    """The page /try splits Chinese into words, shows HTML as text and does not send an empty comment."""
    caller.visit(f"http://127.0.0.1:{port}/", "try")
    assert "the probability of spam is" in caller.score(f"  {MIXED}\n")
    assert caller.page.locator("#words").inner_text() == MIXED
    assert [*caller.words()] == ["我", "喜欢", "这", "首歌", "<img", "src=x", "onerror=alert(1)>", "😀👍", "fin"]
    caller.page.get_by_label("Comment").fill(" \n")
    caller.page.get_by_role("button", name="Score").click()
    expect(caller.page.get_by_role("status")).to_have_text("Write a comment first.")
    expect(caller.page.locator("#result")).to_be_hidden()


@pytest.mark.parametrize(
    ("name", "value", "words"), [("COMMENTS", 5, 4), ("COMMENT_CHARS", 14, 5), ("TOTAL_CHARS", 85, 5)]
)
def test_a_long_text_is_cut_to_the_limits(
    caller: Caller, artifact: Artifact, tmp_path: Path, name: str, value: int, words: int
) -> None:
    """A person who enters a long text at /try reads how many words were scored, and sees only those."""
    LocalModel(tmp_path).save(artifact)
    limits = {"MAX_COMMENT_CHARS": "50", "MAX_TOTAL_CHARS": "10000", f"MAX_{name}": str(value)}
    with running_api(tmp_path, **limits) as (port, _):
        caller.visit(f"http://127.0.0.1:{port}/", "try")
        answer = caller.score("w1 w2 w3 w4 w5 w6 w7 w8")
        assert answer.endswith(f". The text is long: only its first {words} words were scored.")
        assert len(caller.words()) == words
        if name == "COMMENT_CHARS":
            assert "The API answered: comments[0] has 30 characters" in caller.score("w" * 30)


def test_a_key_is_asked_for_when_it_is_needed(caller: Caller, artifact: Artifact, tmp_path: Path) -> None:
    """The page /try requests a key only when the API refuses, accepts any letters, and does not store the key."""
    LocalModel(tmp_path).save(artifact)
    settings = {"URL_PREFIX": "/pre", "API_KEYS": "ключ €"}
    with running_api(tmp_path, **settings) as (port, _), running_nginx(tmp_path, port) as front:
        caller.visit(f"http://127.0.0.1:{front}/pre/")
        caller.page.get_by_role("link", name="Try one comment").click()
        expect(caller.page.get_by_label("API key")).to_be_hidden()
        assert caller.score(TRIED) == "This API requires a key. Enter it above."
        expect(caller.page.get_by_label("API key")).to_be_focused()
        caller.page.keyboard.type("wrong")
        assert caller.score(TRIED) == "The API does not accept this key."
        caller.page.get_by_label("API key").fill("ключ €")
        assert "the probability of spam is" in caller.score(TRIED)
        stored = "[localStorage.length, sessionStorage.length, document.cookie, location.search]"
        assert caller.page.evaluate(stored) == [0, 0, "", ""]
    caller.page.get_by_role("button", name="Score").click()
    expect(caller.page.get_by_role("status")).to_have_text("The API did not answer. Try again in a moment.")
    assert [words for words in caller.complaints if "predict" not in words and "REFUSED" not in words] == []
    caller.complaints.clear()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 900)])
def test_try_fits_the_screen_and_has_no_barriers(
    browser: Browser, axe: str, port: int, scheme: Any, width: int, height: int
) -> None:
    """The page /try fits a telephone and a desktop, dark and light, and axe-core reports nothing serious."""
    with browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, bypass_csp=True
    ) as context:
        caller = Caller(context.new_page())
        caller.visit(f"http://127.0.0.1:{port}/", "try")
        caller.page.evaluate(axe)
        found = barriers(caller.page)
        caller.score(f"{TRIED} {'long' * 100}")
        found += barriers(caller.page)
        assert caller.page.evaluate("document.documentElement.scrollWidth") == width
    assert found == caller.complaints == []


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the script of axe-core; where npm cannot download it skip, or fail when REQUIRE_AXE=1."""
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
    """The axe-core rules report nothing serious on the Swagger page, whichever parts of it are open."""
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
    """A page of another origin can call the API only if CORS_ORIGINS names this origin."""
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
