#!/usr/bin/env bash
# Submits a training job to AWS Batch, shows its log, and prints the model id. Exits with the job's status.
#
# usage: scripts/submit_training_job.sh [NAME=VALUE ...]
#
# NAME=VALUE    a parameter of the notebook, as for scripts/train.sh
# POLL_SECONDS  seconds between two checks of the job; default: 5
#
# Ctrl-C ends this script, but not the job.
# shellcheck source=scripts/aws.sh
. "$(dirname "$0")/aws.sh"

name=pmip-training  # of the queue, and of the job definition, which the schedule also uses
log_group=/pmip/training

main() {
  help_if_asked "$@"
  check_parameters "$@"
  require_aws
  submit "$@"
  trap leave INT TERM
  errors=$(mktemp)
  trap 'rm -f "$errors"' EXIT
  follow
  finish
}

check_parameters() {
  local parameter
  for parameter in "$@"; do
    case $parameter in
      [A-Za-z_]*=*) ;;
      *) die -2 "'$parameter' is not a parameter; give NAME=VALUE" ;;
    esac
  done
}

submit() {
  local overrides=()
  if [ $# -gt 0 ]; then overrides=(--container-overrides "$(command_of "$@")"); fi
  job=$(aws batch submit-job --job-name "$name" --job-queue "$name" --job-definition "$name" \
    ${overrides[@]+"${overrides[@]}"} --query jobId --output text) || die "no job was submitted; the message of aws is above"
  say "job $job"
}

command_of() {
  "${PYTHON:-python3}" -c 'import json, sys; print(json.dumps({"command": ["scripts/train.sh", *sys.argv[1:]]}))' "$@"
}

leave() {
  trap '' INT TERM
  die -130 "the job continues; to end it: aws batch terminate-job --job-id $job --reason unwanted"
}

follow() {
  told=
  stream=None
  model_id=
  log_error=
  while look; do
    tell_state
    show_log
    case $status in SUCCEEDED | FAILED) return ;; esac
    sleep "$poll_seconds"
  done
}

# A job that waits says for what, such as capacity or a configuration that fits no machine.
tell_state() {
  local state=$status
  case $status in SUCCEEDED | FAILED) ;; *) if [ "$status_reason" != None ]; then state="$status: $status_reason"; fi ;; esac
  if [ "$state" != "$told" ]; then say "$state"; fi
  told=$state
}

look() {
  local seen
  seen=$(aws batch describe-jobs --jobs "$job" --output text --query \
    'jobs[0].[status, container.exitCode, container.logStreamName, container.reason, statusReason]') ||
    die "the state of job $job could not be read, but the job continues; the message of aws is above"
  IFS=$'\t' read -r status exit_code newest_stream reason status_reason <<<"$seen"
  [ "$status" != None ] || die "Batch no longer knows job $job"
}

# --- its log ---

# Each attempt has its own log. After the end of a job, wait once for the lines that Batch still writes.
show_log() {
  if [ "$newest_stream" != "$stream" ]; then
    show_rest
    stream=$newest_stream
    token=
  fi
  show_new_lines
  case $status in SUCCEEDED | FAILED) sleep "$poll_seconds"; show_rest ;; esac
}

# At the end of a log, the next token is the same as the given one.
show_rest() {
  local before=none
  if [ "$stream" = None ]; then return; fi
  until [ "$token" = "$before" ]; do
    before=$token
    show_new_lines
  done
}

# There is no log until the job writes its first line.
show_new_lines() {
  local answer lines found
  if [ "$stream" = None ]; then return; fi
  if ! answer=$(aws logs get-log-events --log-group-name "$log_group" --log-stream-name "$stream" --start-from-head \
    ${token:+--next-token "$token"} --query '[[nextForwardToken], events[].[message]]' --output text 2>"$errors"); then
    grep -q ResourceNotFoundException "$errors" || tell_once
    return
  fi
  lines=${answer#*$'\n'}
  token=${answer%%$'\n'*}
  if [ "$lines" != "$answer" ]; then echo "$lines" >&2; fi
  found=$(grep -Ex '[0-9]{8}T[0-9]{6}Z' <<<"$lines" | tail -n 1) || true
  model_id=${found:-$model_id}
}

tell_once() {
  if [ "$(cat "$errors")" != "$log_error" ]; then cat "$errors" >&2; fi
  log_error=$(cat "$errors")
}

# --- its end ---

finish() {
  if [ "$status" = SUCCEEDED ]; then
    if [ -n "$model_id" ]; then echo "$model_id"; else say "its log has no model id"; fi
    return
  fi
  case $exit_code in None | 0) exit_code=1 ;; esac
  if [ "$reason" != None ]; then status_reason="$status_reason ($reason)"; fi
  die "-$exit_code" "the job failed: $status_reason"
}

main "$@"
