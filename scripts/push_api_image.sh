#!/usr/bin/env bash
# Pushes the API image of the current commit, tagged with the commit and latest, and prints its full name.
#
# usage: scripts/push_api_image.sh [--dry-run] REPOSITORY-URI
#
# --dry-run       print the commands instead
# REPOSITORY-URI  e.g. 123456789012.dkr.ecr.eu-west-1.amazonaws.com/pmip_api; the aws command gives the password of ECR
# API_IMAGE       default: pmip_api
# shellcheck source=scripts/containers.sh
. "$(dirname "$0")/containers.sh"
help_if_asked "$@"
push_image "$api_image" "$@"
