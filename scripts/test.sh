#!/usr/bin/env bash
# Sets up all that the tests need in .venv and runs them: linters first, then the notebook on a small sample, then the
# tests, the fast ones before the slow.
#
# usage: scripts/test.sh [--coverage] [PYTEST-ARGUMENT ...]      e.g. scripts/test.sh tests/unit/test_text.py
#
# --coverage   tells in the end which lines and branches of pmip/ no test ran, in whatever process; slower by a half
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
help_if_asked "$@"

pytest=(-m pytest)
if [ "${1:-}" = --coverage ]; then
  shift
  pytest=(-m coverage run --rcfile=tests/coverage.ini "${pytest[@]}")
fi
bash scripts/install.sh --venv train,local,lambda,dask,test,fuzz
export PATH=$root/.venv/bin:$PATH PYTHON=$root/.venv/bin/python
if [ $# -eq 0 ]; then
  say "linters"
  ruff check
  ruff format --check
  mypy
  lint-imports
  shellcheck -x .ci/run scripts/*.sh
  hadolint Dockerfile Dockerfile.train
  say "the notebook on a small sample"
  "$PYTHON" -m pmip check
fi
say "tests"
status=0
"$PYTHON" "${pytest[@]}" "${@:-tests}" || status=$?
if [ "${pytest[1]}" = coverage ]; then
  "$PYTHON" -m coverage combine --quiet --rcfile=tests/coverage.ini
  "$PYTHON" -m coverage report --rcfile=tests/coverage.ini
fi
exit "$status"
