#!/usr/bin/env bash
# Tests the readers of outside input with a coverage-guided fuzzer, and prints the number of inputs for each.
#
# usage: scripts/fuzz.sh [--seconds N] [TARGET ...]
#
# TARGET      payload, normaliser, csv, zip, model, metadata; default: all of them, one after another
# --seconds   how long each target is tested; default: 60
# DATA_DIR    inputs that reached new code are kept in DATA_DIR/fuzz/TARGET for the next run; default: data
#
# A finding ends the script with status 1, and its input is in DATA_DIR/fuzz/crash-*. It needs the extras 'train' and
# 'fuzz', which is available for Linux on x86-64 with Python 3.11.
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
help_if_asked "$@"

targets="payload normaliser csv zip model metadata"
seconds=60
if [ "${1:-}" = --seconds ]; then
  seconds=${2:-}
  case $seconds in '' | *[!0-9]* | 0*) die -2 "--seconds requires a whole number of at least 1" ;; esac
  shift 2
fi
# shellcheck disable=SC2086  # one word each
[ $# -gt 0 ] || set -- $targets
for target in "$@"; do
  case " $targets " in
    *" $target "*) ;;
    *) die -2 "$target is not a target; the targets are: $targets" ;;
  esac
done

python=$(find_python)
"$python" -Ic 'import atheris, pandas' 2>/dev/null ||
  die -2 "atheris or pandas is not installed; 'bash scripts/install.sh --venv train,fuzz' installs it"
folder=$(absolute "${DATA_DIR:-$root/data}")/fuzz
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} OPENBLAS_NUM_THREADS=1

for target in "$@"; do
  mkdir -p "$folder/$target"
  log=$folder/$target.log
  say "$target for $seconds seconds"
  if ! "$python" -W ignore tests/support/fuzz.py "$target" "-max_total_time=$seconds" -max_len=4096 -timeout=20 -rss_limit_mb=2048 \
    "-dict=tests/support/fuzz.dict" "-artifact_prefix=$folder/" "$folder/$target" >"$log" 2>&1; then
    grep -v '^#' "$log" | tail -30 >&2
    die "$target: a finding; its input is in $folder, and the output in $log"
  fi
  echo "$target: $(sed -n 's/^Done \([0-9]*\) runs in .*/\1/p' "$log") inputs, no finding"
done
