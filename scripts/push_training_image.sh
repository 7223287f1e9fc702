#!/usr/bin/env bash
# Pushes the training image of the current commit, tagged with the commit and latest, and prints its full name.
#
# usage: scripts/push_training_image.sh [--dry-run] REPOSITORY-URI
#
# --dry-run       print the commands instead
# REPOSITORY-URI  e.g. 123456789012.dkr.ecr.eu-west-1.amazonaws.com/pmip; the aws command gives the password of ECR
# TRAINING_IMAGE  default: pmip
# shellcheck source=scripts/containers.sh
. "$(dirname "$0")/containers.sh"
help_if_asked "$@"
push_image "$training_image" "$@"
