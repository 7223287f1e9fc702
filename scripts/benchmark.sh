#!/usr/bin/env bash
# Measures the API with a model beside two others on gunicorn's own worker: a route that does nothing, and a plain one
# that calls scikit-learn's predict on the same model. Prints a table; a wrong answer or an error under load fails.
#
# usage: scripts/benchmark.sh [--seconds N] [--rounds N] [--comments FILE]... [MODEL.pkl]
#        scripts/benchmark.sh in-process [--comments FILE]... [MODEL.pkl]
#        scripts/benchmark.sh fit-words FOLDER FILE...
#
# in-process   prints how long one comment takes without HTTP, by the scorer of the API
# fit-words    fits TF-IDF of words and word pairs with logistic regression on the comments of FILEs, and saves this
#              simpler model as FOLDER/model.pkl
#
# MODEL.pkl    default: DATA_DIR/model.pkl, which scripts/train.sh makes; its metadata.json is the one beside it
# --comments   a .csv or .zip file whose comments are sent in turn; default: the first of the README's example, always
# --seconds    how long each load lasts, default 5: 12 a round, and one more at each start
# --rounds     how often everything is measured, the servers in turn; the table has the medians; default 3
#
# CPU is the processors' time that a server needs for a request: other work on the machine hardly changes it.
# Ready is the time from the start to the first right answer: cold with an empty model cache, and again with what that
# start left there. Memory is the PSS after load, in which shared pages count once; Linux alone tells it.
# It needs wrk, and the extras 'train' and 'test'. Servers listen on 127.0.0.1 alone, and end with the script.
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
