#!/usr/bin/env bash
# Runs the training image on the working directory, mounted at /usr/src/app; the caller owns the files that it writes.
# Without arguments it serves Jupyter on 127.0.0.1. Settings and AWS credentials come from the caller's environment.
#
# usage: scripts/run_training_container.sh [-c "COMMAND" | SCRIPT [ARGUMENT ...] | -]
#
# COMMAND         e.g. "jupyter notebook notebooks/ --ip 0.0.0.0 --port 8888 --no-browser"
# SCRIPT          a path inside the project, e.g. scripts/train.sh SEED=1
# -               start a shell
# JUPYTER_PORT    the port on 127.0.0.1 for port 8888 of the container; default: 8888
# TRAINING_IMAGE  default: pmip
# shellcheck source=scripts/containers.sh
. "$(dirname "$0")/containers.sh"
help_if_asked "$@"
prepare_container "$training_image" rw "$@"
docker_arguments+=(--init --env "GIT_REVISION=$(git_revision)")
case ${1:-} in
  '' | - | -c) publish JUPYTER_PORT "${JUPYTER_PORT:-8888}" 8888 "$@" ;;
esac
exec docker run "${docker_arguments[@]}" "$training_image" "$@"
