#!/usr/bin/env bash
# Compares the API with two other apps on gunicorn's default worker: a route that does nothing, and a plain route that
# calls scikit-learn's predict on the same model. Prints a table; fails after a wrong answer or an error under load.
#
# usage: scripts/benchmark.sh [--seconds N] [--rounds N] [--comments FILE]... [MODEL.pkl]
#        scripts/benchmark.sh in-process [--comments FILE]... [MODEL.pkl]
#        scripts/benchmark.sh fit-words FOLDER FILE...
#
# in-process   prints how long the API's scorer takes for one comment, without HTTP
# fit-words    fits TF-IDF of words and word pairs with logistic regression on the comments of FILEs, and saves this
#              simpler model as FOLDER/model.pkl
#
# MODEL.pkl    a model with its metadata.json beside it; default: DATA_DIR/model.pkl, which scripts/train.sh writes
# --comments   a .csv or .zip file whose comments are sent in turn; default: always the first comment of the README
# --seconds    how long each load lasts; default: 5. There are 12 loads in each round, and one more at each start
# --rounds     how often everything is measured; the table shows medians; default: 3
#
# CPU is the processor time of a server for one request; other work on the machine hardly changes it.
# Ready is the time from the start to the first correct answer: first with an empty model cache (cold), then with the
# cache of that start. Memory is the PSS after load, which counts shared pages once; only Linux reports it.
# It needs wrk, and the extras 'train' and 'test'. Servers listen only on 127.0.0.1, and end with the script.
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
help_if_asked "$@"

case ${1:-} in
  in-process | fit-words) ;;
  *)
    command -v wrk >/dev/null || die -2 "wrk is not installed; 'apt-get install wrk' or 'brew install wrk' installs it"
    set -- serving "$@"
    ;;
esac
python=$(find_python)
"$python" -Ic 'import pandas, psutil' 2>/dev/null ||
  die -2 "pandas or psutil is not installed; 'bash scripts/install.sh --venv train,local,test' installs it"
cd "$caller_dir"
PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} exec "$python" "$root/scripts/benchmark" "$@"
