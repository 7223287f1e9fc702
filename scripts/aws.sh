# Scripts that use AWS source this file instead of common.sh. The aws command finds region and credentials by itself.
# shellcheck shell=bash
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"

export AWS_PAGER=  # version 2 shows answers page by page by default

# shellcheck disable=SC2034  # used by the scripts
poll_seconds=${POLL_SECONDS:-5}

require_aws() {
  command -v aws >/dev/null ||
    die "the aws command is not installed; see https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html"
}

# The template of a stage has the same name. A budget is for the whole account, and is created in us-east-1, because many
# regions have none.
read_stage() { # read_stage [STAGE ...]
  local stages
  stages=$(cd scripts/cloudformation 2>/dev/null && echo *.yml) || true
  case " $stages " in
    *" ${1:-}.yml "*) ;;
    *) die -2 "'${1:-}' is not a stage; the stages are: ${stages//.yml/}" ;;
  esac
  # shellcheck disable=SC2034  # used by the scripts
  stack=pmip-$1 template=scripts/cloudformation/$1.yml
  case $1 in budget) export AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1 ;; esac
}

# Prints what a query finds in the description of a stack.
describe_stack() { # describe_stack STACK QUERY
  aws cloudformation describe-stacks --stack-name "$1" --output text --query "Stacks[0].$2"
}

foundation_output() { # foundation_output NAME
  local value
  value=$(describe_stack pmip-foundation "Outputs[?OutputKey=='$1'].OutputValue") ||
    die "the stack pmip-foundation could not be read; 'bash scripts/deploy_stack.sh foundation' creates it"
  [ -n "$value" ] || die "the stack pmip-foundation has no output $1; 'bash scripts/deploy_stack.sh foundation' updates it"
  echo "$value"
}

# Prints fields of the API's environment on Elastic Beanstalk; each of them is None if there is no environment.
describe_environment() { # describe_environment FIELDS
  aws elasticbeanstalk describe-environments --application-name pmip --environment-names pmip-env --output text \
    --query "Environments[?Status!='Terminated'] | [0].[$1]"
}

now() { date -u +%Y-%m-%dT%H:%M:%S; }

# Prints which resources of a stack failed since a time, and why, without those that were cancelled after another failed.
tell_failures() { # tell_failures STACK SINCE
  aws cloudformation describe-stack-events --stack-name "$1" --output text \
    --query "StackEvents[?ends_with(ResourceStatus, '_FAILED')].[Timestamp, LogicalResourceId, ResourceType, ResourceStatusReason]" |
    sort | awk -F '\t' -v since="$2" '$1 >= since && $4 !~ /cancelled/ { print "    " $2 " (" $3 "): " $4 }' >&2
}

# Prints why a change set failed, such as a name that is taken: AWS checks this before it changes anything.
tell_conflicts() { # tell_conflicts STACK SINCE
  local change
  change=$(aws cloudformation list-change-sets --stack-name "$1" --output text \
    --query "Summaries[?Status=='FAILED'].[CreationTime, ChangeSetId]" |
    sort | awk -F '\t' -v since="$2" '$1 >= since { id = $2 } END { print id }')
  if [ -z "$change" ]; then return; fi
  aws cloudformation describe-events --change-set-name "$change" --filters FailedEvents=true --output text 2>/dev/null --query \
    "OperationEvents[?EventType=='VALIDATION_ERROR'].[LogicalResourceId, ResourceType, PhysicalResourceId, ValidationStatusReason]" |
    awk -F '\t' '{ print "    " $1 " (" $2 ") " $3 ": " $4 }' >&2 ||
    say "an aws command of 2026 or later reports the reasons: aws cloudformation describe-events --change-set-name $change"
}

# Prints the lines that are not in KNOWN.
new_lines() { # new_lines LINES KNOWN
  printf '%s\n' "$1" | grep -Fxv -e "$2" || true
}
