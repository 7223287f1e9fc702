#!/usr/bin/env bash
# Runs the checks for every commit: linters, the tests of each module, and the quick tests of the whole system with a
# real S3 server. They take about 3 minutes on two cores, and 1.1 GB of disk for .venv, which the first call creates in
# one or two minutes.
#
# usage: scripts/test.sh [--all | --rest] [--coverage] [PYTEST-ARGUMENT ...]
#
# --all            run all other tests too: AWS templates and scripts, containers, a browser, hostile input, load. They
#                  take about 30 minutes, 1.8 GB for .venv and, with a Docker engine, 3 GB for images. Tests that need a
#                  program that is missing (an engine, Chromium, nginx, wrk, faketime) are skipped and listed at the end
# --rest           run only what a call without options leaves out, as CI does after such a call
# --coverage       report at the end which lines and branches of pmip/ no test ran, in any process; takes half as long
#                  again
# PYTEST-ARGUMENT  with a path, only these tests run, without linters, and only what they need is installed:
#                  scripts/test.sh tests/unit/test_text.py -k html; with --all they run in two processes:
#                  scripts/test.sh --all tests/aws
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"

in_parallel=(-n 2 --dist loadfile --no-loadscope-reorder)
all=false
rest=
pytest=(-m pytest)
status=0

main() {
  help_if_asked "$@"
  while [ $# -gt 0 ]; do
    case $1 in
      --all) all=true ;;
      --rest) all=true rest="slow and " ;;
      --coverage) pytest=(-m coverage run --rcfile=tests/coverage.ini "${pytest[@]}") ;;
      *) break ;;
    esac
    shift
  done
  bash scripts/install.sh --venv "$(extras "$@")"
  export PATH=$root/.venv/bin:$PATH PYTHON=$root/.venv/bin/python
  if ! names_a_path "$@"; then
    if [ -z "$rest" ]; then linters; fi
    if $all; then set -- tests "$@"; else set -- "${in_parallel[@]}" -m "not slow" tests/unit tests/system "$@"; fi
  fi
  if $all; then all_tests "$@"; else run_tests "$@"; fi
  if [ "${pytest[1]}" = coverage ]; then report_coverage; fi
  exit "$status"
}

# Prints the extras that the tests need: those of every commit, or those with these paths, or all of them.
extras() { # extras [PYTEST-ARGUMENT ...]
  local some=train,local,test argument path
  if ! names_a_path "$@"; then
    if $all; then set -- tests; else set -- tests/system/test_lambda_handler.py; fi
  fi
  for argument in "$@"; do
    path=${argument%%::*}
    case ${path%/} in
      tests) some=$some,lambda,dask,test-all,fuzz ;;
      tests/unit | tests/unit/training | tests/unit/training/test_scale.py | tests/containers*) some=$some,dask ;;
      tests/system) some=$some,lambda,test-all ;;
      tests/system/test_lambda_handler.py) some=$some,lambda ;;
      tests/system/test_schema.py | tests/system/test_generated_client.py | tests/aws* | tests/browser*) some=$some,test-all ;;
      tests/hostile | tests/hostile/test_fuzz.py) some=$some,fuzz ;;
    esac
  done
  echo "$some"
}

names_a_path() { # names_a_path [PYTEST-ARGUMENT ...]
  local argument
  for argument in "$@"; do
    if [ -e "${argument%%::*}" ]; then return; fi
  done
  return 1
}

linters() {
  say "linters"
  ruff check
  ruff format --check
  mypy
  lint-imports --no-logo >&2
  shellcheck -x .ci/run scripts/*.sh
  hadolint Dockerfile Dockerfile.train
}

# Tests that measure time run alone.
all_tests() { # all_tests [PYTEST-ARGUMENT ...]
  run_tests "${in_parallel[@]}" -m "${rest}not alone" "$@"
  run_tests -m "${rest}alone" "$@"
}

run_tests() { # run_tests PYTEST-ARGUMENT ...
  local outcome=0
  say "pytest $*"
  "$PYTHON" "${pytest[@]}" "$@" || outcome=$?
  if $all && [ "$outcome" = 5 ]; then return; fi  # -k may select no test of one of the two runs
  if [ "$outcome" != 0 ]; then status=$outcome; fi
}

report_coverage() {
  "$PYTHON" -m coverage combine --quiet --rcfile=tests/coverage.ini
  "$PYTHON" -m coverage report --rcfile=tests/coverage.ini
}

main "$@"
