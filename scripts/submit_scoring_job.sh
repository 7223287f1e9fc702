#!/usr/bin/env bash
# Scores files in the bucket by a job of AWS Batch with the newest version, and prints the address of the results.
#
# usage: scripts/submit_scoring_job.sh s3://BUCKET/scoring/NAME/ s3://BUCKET/scored/NAME/
#        scripts/submit_scoring_job.sh s3://BUCKET/scoring/FILE s3://BUCKET/scored/FILE.csv
#
# A folder of several files is scored by an array job with one child for each file. The job has the image, the version and
# the permissions of the training job, which may read scoring/ and write scored/.
#
# POLL_SECONDS  seconds between two checks of the job; default: 5
#
# Ctrl-C ends this script, but not the job.
# shellcheck source=scripts/aws.sh
. "$(dirname "$0")/aws.sh"

name=pmip-training  # of the queue and the job definition

main() {
  help_if_asked "$@"
  case ${1:-} in -*) refuse "$1" ;; esac
  if [ $# -ne 2 ]; then die -2 "give two addresses: what to score, and where to store the results"; fi
  case $1 in s3://*/scoring/?*) ;; *) die -2 "'$1' is not below s3://BUCKET/scoring/" ;; esac
  case $2 in s3://*/scored/?*) ;; *) die -2 "'$2' is not below s3://BUCKET/scored/" ;; esac
  if [ "$(is_folder "$1")" != "$(is_folder "$2")" ]; then die -2 "give two folders, with / at their ends, or two files"; fi
  require_aws
  submit "$@"
  trap leave INT TERM
  follow
  if [ "$status" = FAILED ]; then die "the job failed: $reason; its log is in /pmip/training"; fi
  echo "$2"
}

is_folder() { case $1 in */) echo true ;; *) echo false ;; esac; }

submit() {
  local files=1 array=() overrides
  case $1 in */) files=$(count_files "$1") || exit ;; esac
  # The smallest array of Batch has two children.
  if [ "$files" -gt 1 ]; then array=(--array-properties "size=$files"); fi
  overrides=$("${PYTHON:-python3}" -c 'import json, sys
command = ["-c", "exec python -m pmip score \"$@\"", "score", sys.argv[1], "--output", sys.argv[2]]
print(json.dumps({"command": command}))' "$@")
  job=$(aws batch submit-job --job-name pmip-scoring --job-queue "$name" --job-definition "$name" \
    ${array[@]+"${array[@]}"} --container-overrides "$overrides" --query jobId --output text) ||
    die "no job was submitted; the message of aws is above"
  say "job $job scores $files files"
}

count_files() {
  local python
  python=$(find_python)
  "$python" - "$1" <<'PYTHON'
import sys

from pmip.errors import PmipError
from pmip.training.transfer import files_below

try:
    print(len(files_below(sys.argv[1])))
except PmipError as error:
    sys.exit(f"submit_scoring_job.sh: {error}")
PYTHON
}

leave() {
  trap '' INT TERM
  die -130 "the job continues; to end it: aws batch terminate-job --job-id $job --reason unwanted"
}

follow() {
  local seen told=
  while :; do
    seen=$(aws batch describe-jobs --jobs "$job" --output text --query 'jobs[0].[status, statusReason]') ||
      die "the state of job $job could not be read, but the job continues; the message of aws is above"
    IFS=$'\t' read -r status reason <<<"$seen"
    [ "$status" != None ] || die "Batch no longer knows job $job"
    if [ "$status" != "$told" ]; then say "$status"; fi
    told=$status
    case $status in SUCCEEDED | FAILED) return ;; esac
    sleep "$poll_seconds"
  done
}

main "$@"
