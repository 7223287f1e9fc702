#!/usr/bin/env bash
# Builds the training image from the working directory, tags it with the commit and latest, and prints its name.
#
# usage: scripts/build_training_image.sh
#
# PYTHON_IMAGE    the base image; default: python:3.11-slim
# TRAINING_IMAGE  the image's name; default: pmip
# shellcheck source=scripts/containers.sh
. "$(dirname "$0")/containers.sh"
help_if_asked "$@"
if [ $# -gt 0 ]; then refuse "$1"; fi
require_engine
build_image "$training_image" Dockerfile.train "GIT_REVISION=$(git_revision)" ${PYTHON_IMAGE:+"PYTHON_IMAGE=$PYTHON_IMAGE"}
