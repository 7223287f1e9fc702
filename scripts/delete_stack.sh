#!/usr/bin/env bash
# Deletes one of pmip's stacks, waits for the end, and prints what AWS kept, such as the bucket with data and models.
#
# usage: scripts/delete_stack.sh foundation|budget|training|serving|lambda
#
# Delete the foundation last, because the others use it.
# shellcheck source=scripts/aws.sh
. "$(dirname "$0")/aws.sh"

main() {
  local begun id
  help_if_asked "$@"
  if [ $# -ne 1 ]; then usage >&2; exit 2; fi
  read_stage "$1"
  require_aws
  id=$(describe_stack "$stack" StackId) ||
    die "$stack could not be found; the message of aws is above"
  refuse_if_used
  begun=$(now)
  say "deleting $stack: a few minutes"
  aws cloudformation delete-stack --stack-name "$id" || die "$stack is unchanged; the message of aws is above"
  aws cloudformation wait stack-delete-complete --stack-name "$id" || explain "$id" "$begun"
  tell_kept "$id"
}

# CloudFormation would try for an hour to delete a stack that others import from.
refuse_if_used() {
  local exports name used users=()
  exports=$(describe_stack "$id" "Outputs[?ExportName].ExportName") ||
    die "$stack is unchanged; the message of aws is above"
  for name in ${exports//None/}; do # AWS answers with an error if nothing imports a name
    read -ra used <<<"$(aws cloudformation list-imports --export-name "$name" --query Imports --output text 2>/dev/null)"
    users+=(${used[@]+"${used[@]}"})
  done
  if [ ${#users[@]} -eq 0 ]; then return; fi
  die "$stack is unchanged because other stacks use it; delete these first: $(printf '%s\n' "${users[@]}" | sort -u | tr '\n' ' ')"
}

# A deleted stack can only be found by its id.
tell_kept() { # tell_kept ID
  local kept
  kept=$(aws cloudformation describe-stack-events --stack-name "$1" --output text \
    --query "StackEvents[?ResourceStatus=='DELETE_SKIPPED'].[ResourceType, PhysicalResourceId]") ||
    die "$stack is deleted, but the list of what was kept could not be read; the message of aws is above"
  say "$stack is deleted${kept:+; kept:}"
  if [ -n "$kept" ]; then echo "$kept"; fi
}

explain() { # explain ID BEGUN
  tell_failures "$1" "$2" || true
  die "$stack was not deleted, or not completely; correct the problems above and run this again"
}

main "$@"
