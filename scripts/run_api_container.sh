#!/usr/bin/env bash
# Runs the API image on the working directory, mounted read-only at /usr/src/app, and publishes it on 127.0.0.1.
# Settings and AWS credentials come from the caller's environment. In dev it serves data/model.pkl; if there is none and
# BUCKET is set, it first downloads the newest model of staging.
#
# usage: ENVIRONMENT=dev|staging|prod BUCKET=NAME scripts/run_api_container.sh [-c "COMMAND" | -]
#
# -          start a shell
# PORT       the port on 127.0.0.1; default: 8000
# API_IMAGE  default: pmip_api
# shellcheck source=scripts/containers.sh
. "$(dirname "$0")/containers.sh"
help_if_asked "$@"

main() {
  prepare_container "$api_image" ro "$@"
  docker_arguments+=(--read-only --tmpfs /tmp --cap-drop ALL)
  publish PORT "${PORT:-8000}" 8000 "$@"
  if [ $# -eq 0 ] && [ "${ENVIRONMENT:-dev}" = dev ]; then provide_local_model; fi
  exec docker run "${docker_arguments[@]}" "$api_image" "$@"
}

provide_local_model() {
  if [ -f "${DATA_DIR:-data}/model.pkl" ]; then return; fi
  if [ -n "${BUCKET:-}" ] && fetch_model; then return; fi
  say "there is no local model; 'bash scripts/run_training_container.sh scripts/train.sh' trains one, which is then served"
}

# The API image has the code for this, and the folder of the data is mounted writable only for a training container.
fetch_model() {
  say "downloading the newest model of staging"
  TRAINING_IMAGE=$api_image bash scripts/run_training_container.sh -c 'exec python -m pmip get-latest-model staging' >&2
}

main "$@"
