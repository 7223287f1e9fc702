#!/usr/bin/env bash
# Takes the two screenshots in README.md: the page /try of an API that it starts for DATA_DIR/model.pkl, and the top of
# the newest report in DATA_DIR, which should be a full one on real comments (scripts/get_youtube_spam_collection.sh).
# Writes .github/images/try.png and report.png.
#
# usage: scripts/take_screenshots.sh
#
# DATA_DIR   the folder with a model and its report of scripts/train.sh; default: data
# CHROMIUM   the browser; default: chromium on the path
#
# It needs Chromium and 'bash scripts/install.sh --venv train,test,test-all'.
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"

main() {
  help_if_asked "$@"
  if [ $# -gt 0 ]; then refuse "$1"; fi
  local data python report port=${PORT:-8765}
  data=$(absolute "${DATA_DIR:-$root/data}")
  python=$(find_python)
  report=$(find "$data" -maxdepth 1 -name 'model-training-*.html' | sort | tail -n 1)
  [ -n "$report" ] || die "there is no report in $data; 'bash scripts/train.sh' makes one"
  ! grep -q 'training data sample' "$report" || die "$report is about the sample; train on real comments first"
  command -v "${CHROMIUM:-chromium}" >/dev/null || die "${CHROMIUM:-chromium} is not installed"
  ENVIRONMENT=dev DATA_DIR=$data HOST=127.0.0.1 PORT=$port "$python" -m gunicorn -c python:pmip.gunicorn_conf \
    pmip.wsgi:app >/dev/null 2>&1 &
  api=$!
  trap 'kill "$api"; wait "$api" || true' EXIT
  mkdir -p .github/images
  "$python" - "$(command -v "${CHROMIUM:-chromium}")" "http://127.0.0.1:$port/" "file://$report" <<'PYTHON'
import io
import sys
import time
import urllib.request
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

chromium, api, report = sys.argv[1:]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
for _ in range(100):
    try:
        direct.open(api + "readiness", timeout=5)
        break
    except OSError:
        time.sleep(0.2)


def save(picture: bytes, name: str) -> None:
    """Save a picture with 64 colours to keep it small."""
    image = Image.open(io.BytesIO(picture)).convert("RGB").quantize(64)
    image.save(Path(".github/images") / name, optimize=True)


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
    page = browser.new_page(viewport={"width": 1000, "height": 720})
    page.goto(api + "try")
    page.get_by_role("button", name="Score").click()
    page.locator("#result").wait_for()
    save(page.screenshot(), "try.png")
    page.set_viewport_size({"width": 1000, "height": 1000})
    page.goto(report)
    page.wait_for_timeout(500)
    save(page.screenshot(), "report.png")
    browser.close()
PYTHON
  say "wrote .github/images/try.png and report.png"
}

main "$@"
