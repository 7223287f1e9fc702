#!/usr/bin/env bash
# Runs the whole loop on this machine and needs only Python 3.11: installs pmip into .venv, starts a local S3 server,
# uploads training data, trains a model as in production, serves it on 127.0.0.1 and classifies two comments.
# Ctrl-C ends everything that it started. A second run keeps the bucket and trains a newer version. The first call takes
# two to three minutes, mostly to install 0.8 GB into .venv; later calls take half a minute.
#
# usage: scripts/quickstart.sh [--once] [--port N] [--containers] [ZIP]
#
# --once        stop after the answers
# --port N      the port of the API; default: PORT, or else 8000
# --containers  build the images, then train and serve in containers; .venv then only holds the local S3 server
# ZIP           training data, such as the YouTube Spam Collection; default: the sample that comes with the project
#
# LOCAL_S3_PORT  the port of the local S3 server; default: 8333
# DATA_DIR       the folder for models, reports, logs and S3 objects; default: data. Only one quick start can use it
# shellcheck source=scripts/containers.sh
. "$(dirname "$0")/containers.sh"

once=false
containers=false
port=${PORT:-8000}
zip=
api_pid=
started_s3=false

main() {
  read_arguments "$@"
  python=$(base_python)
  if $containers; then require_engine; fi
  one_quick_start_at_a_time
  prepare_settings
  require_free_ports
  bash scripts/install.sh --venv "$(if ! $containers; then echo train,; fi)local"
  export PYTHON=$root/.venv/bin/python
  trap clean_up EXIT
  trap 'exit 130' INT
  trap 'exit 143' HUP TERM
  if $containers; then bash scripts/build_api_image.sh >/dev/null; fi
  start_s3
  seed
  model_id=$(with_progress "$DATA_DIR/quickstart.log" "training a model (half a minute on two idle cores)" \
    in_training scripts/train.sh REPORT=short)
  start_api
  ask
  trap 'exit 0' INT TERM  # from here on, Ctrl-C is the usual end
  tell_where
  if ! $once; then serve; fi
}

read_arguments() {
  help_if_asked "$@"
  while [ $# -gt 0 ]; do
    case $1 in
      --once) once=true ;;
      --containers) containers=true ;;
      --port) port=${2:-}; if [ $# -gt 1 ]; then shift; fi ;;
      -*) refuse "$1" ;;
      *) zip=$(absolute "$1") ;;
    esac
    shift
  done
  case $port in '' | *[!0-9]*) die -2 "--port requires a number" ;; esac
  [ -z "$zip" ] || [ -f "$zip" ] || die -2 "$zip: there is no such file"
}

# Two of them would mix their logs and models, and the one that ends first would stop the S3 server of both.
one_quick_start_at_a_time() {
  export DATA_DIR=${DATA_DIR:-data}
  mkdir -p "$DATA_DIR" || die "$DATA_DIR cannot be created; set DATA_DIR to another folder"
  exec 7>>"$DATA_DIR/quickstart.lock"
  lock "$python" 7 LOCK_NB || die "another quick start, or its API, uses $DATA_DIR; end it, or set another DATA_DIR"
}

# Ignore settings of the shell for another API, and never use a proxy for this machine.
prepare_settings() {
  local name
  for name in API_KEYS API_KEYS_FILE PINNED_MODEL_ID; do
    if [ -n "${!name:-}" ]; then say "$name of this shell is ignored"; fi
    unset "$name"
  done
  export NO_PROXY=127.0.0.1,localhost${NO_PROXY:+,$NO_PROXY} no_proxy=127.0.0.1,localhost${no_proxy:+,$no_proxy}
}

require_free_ports() {
  local ports=("$port") unusable
  bash scripts/local_s3.sh status >/dev/null 2>&1 || ports+=("${LOCAL_S3_PORT:-8333}")
  unusable=$(unusable_ports "$python" "${ports[@]}" | paste -sd , -)
  [ -z "$unusable" ] || die "in use or not allowed: port ${unusable//,/ and port };" \
    "choose another one with --port or PORT for the API, with LOCAL_S3_PORT for the local S3 server"
}

start_s3() {
  local exports
  if ! bash scripts/local_s3.sh status >/dev/null 2>&1; then
    bash scripts/local_s3.sh start
    started_s3=true
  fi
  exports=$(bash scripts/local_s3.sh env)
  eval "$exports"
}

# Runs a script of the project in .venv, or in the training image.
in_training() { # in_training SCRIPT [ARGUMENT ...]
  if $containers; then bash scripts/run_training_container.sh "$@"; else bash "$@"; fi
}

# Each set of training data has its own bucket, so that the versions of different data are never mixed.
seed() {
  local files=(notebooks/sample-training-data/*.csv) name=sample
  if [ -n "$zip" ]; then files=("$(visible "$zip")"); name=$(cksum <"$zip" | tr -d ' '); fi
  export ENVIRONMENT=staging BUCKET=pmip-quickstart-$name
  "$PYTHON" -m pmip make-bucket
  in_training scripts/seed_training_data.sh --if-empty "${files[@]}" >/dev/null
}

# Prints the path of a file for training: containers see only the project and DATA_DIR.
visible() { # visible FILE
  local folder=$DATA_DIR/quickstart
  if ! $containers; then echo "$1"; return; fi
  mkdir -p "$folder"
  cp -f "$1" "$folder"
  case $folder in /*) folder=/data/quickstart ;; esac
  echo "$folder/${1##*/}"
}

# The API has its own process group, so that Ctrl-C does not reach it: clean_up ends it after its requests are finished.
start_api() {
  local alone='import os, sys; os.setpgrp(); os.execvp(sys.argv[1], sys.argv[1:])'
  local api=("$PYTHON" -m gunicorn -c python:pmip.gunicorn_conf pmip.wsgi:app)
  if $containers; then api=(bash scripts/run_api_container.sh); fi
  say "starting the API"
  HOST=127.0.0.1 PORT=$port MODEL_POLL_SECONDS=${MODEL_POLL_SECONDS:-10} \
    "$PYTHON" -c "$alone" "${api[@]}" >"$DATA_DIR/api.log" 2>&1 &
  api_pid=$!
}

# Waits until the new model answers, and prints its answer as curl would.
ask() {
  "$PYTHON" - "http://127.0.0.1:$port" "$model_id" "$api_pid" <<'PYTHON' || api_failed
import os
import sys
import time
import urllib.request

address, model_id, process = sys.argv[1:]
body = b'{"comments": ["Check it out this free stuff", "I take issue with your characterization"]}'
question = urllib.request.Request(address + "/predict?type=class", body, {"Content-Type": "application/json"})
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
for attempt in range(150):
    try:
        os.kill(int(process), 0)
        with direct.open(question, timeout=10) as answer:
            text = answer.read().decode().strip()
            if answer.headers["X-Model-Id"] == model_id:  # the API may start with an older version from its cache
                print(text, flush=True)
                sys.exit()
    except ProcessLookupError:
        sys.exit(1)
    except OSError:
        pass
    time.sleep(0.2)
sys.exit(1)
PYTHON
}

api_failed() {
  tail -n 5 "$DATA_DIR/api.log" >&2
  die "the API does not answer; its log is $DATA_DIR/api.log"
}

tell_where() {
  local train=scripts/train.sh
  say "model:        $model_id"
  say "report:       $DATA_DIR/model-training-$model_id.html"
  if $once; then return; fi
  if $containers; then train="scripts/run_training_container.sh $train"; fi
  say "Swagger page: http://127.0.0.1:$port/"
  say "retrain:      eval \"\$(bash scripts/local_s3.sh env)\" && ENVIRONMENT=staging BUCKET=$BUCKET bash $train"
  say "Ctrl-C ends the API$(if $started_s3; then echo ' and the local S3 server'; fi)"
}

serve() {
  wait "$api_pid" || api_failed
}

clean_up() {
  if [ -n "$api_pid" ]; then
    kill "$api_pid" 2>/dev/null || true
    wait "$api_pid" 2>/dev/null || true
  fi
  if $started_s3; then bash scripts/local_s3.sh stop; fi
}

main "$@"
