#!/usr/bin/env bash
# Compares the API with two other apps on gunicorn's default worker: a route that does nothing, and a plain route that
# calls scikit-learn's predict on the same model. Prints two tables; fails after a different answer or an error.
#
# usage: scripts/benchmark.sh [--seconds N] [--rounds N] [--comments FILE]... [MODEL.pkl]
#
# MODEL.pkl    a model that can be read as data, with its metadata.json; default: DATA_DIR/model.pkl of scripts/train.sh
# --comments   a .csv or .zip file whose comments are sent in turn; default: always the first comment of the README
# --seconds    how long each load lasts; default: 5. There are 12 loads in each round
# --rounds     how often each load is repeated; the table shows medians; default: 3
#
# "to no-op" is the ratio of requests per second to the route that does nothing, in the same round. CPU is the
# processor time of a server for one request; other work on the machine hardly changes it. Ready is the time from the
# start with an empty model cache to the first answer. Memory is the PSS after load, which only Linux reports.
# It needs wrk, and the extras 'train' and 'test'. Servers listen only on 127.0.0.1, and end with the script.
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
help_if_asked "$@"

command -v wrk >/dev/null || die -2 "wrk is not installed; 'apt-get install wrk' or 'brew install wrk' installs it"
python=$(find_python)
"$python" -Ic 'import pandas, psutil' 2>/dev/null ||
  die -2 "pandas or psutil is not installed; 'bash scripts/install.sh --venv train,local,test' installs it"
cd "$caller_dir"
PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} exec "$python" "$root/scripts/benchmark" "$@"
