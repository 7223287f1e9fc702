#!/usr/bin/env bash
# Runs a local S3 server for development: SeaweedFS, or moto's server on systems without a wheel of SeaweedFS.
#
# Usage: bash scripts/local_s3.sh start | stop | status | env
#
#   start    starts the server, unless it runs, and waits until it stores and returns objects
#   stop     stops the server and keeps the objects
#   status   prints its address; exits with 0 if it runs and with 1 otherwise
#   env      prints the settings that make boto3, the aws command and pmip use it:
#              eval "$(bash scripts/local_s3.sh env)"
#
# It listens only on 127.0.0.1 and requires random credentials, which the first start creates. Objects, credentials and
# the log of the last start are in DATA_DIR/local-s3. HTTP requests to S3 and to the filer require a password. But the gRPC
# ports of SeaweedFS require none: every program on this machine can read, write and delete objects through them. So keep
# a copy of all data elsewhere, and use the server on a machine whose users you trust.
#
# Settings: LOCAL_S3_PORT  port of the S3 API (default 8333); nine more ports are derived from it
#           DATA_DIR       the data folder (default data)
#           PYTHON         a Python that has pmip and its extra 'local'

# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"

port=${LOCAL_S3_PORT:-8333}
data_dir=${DATA_DIR:-data}
folder=$data_dir/local-s3
seconds_to_start=60
seconds_to_stop=20

main() {
  help_if_asked "$@"
  case "$#:${1:-}" in
    1:start | 1:stop | 1:status | 1:env) ;;
    1:*) refuse "$1" ;;
    *) die -2 "usage: bash scripts/local_s3.sh start | stop | status | env" ;;
  esac
  if [ "$1" = start ]; then make_folder; fi
  if [ -d "$folder" ]; then folder=$(cd "$folder" && pwd -P); fi
  require_own_files
  objects=$folder/objects
  credentials=$folder/credentials
  log=$folder/server.log
  pid_file=$folder/server.pid
  "${1}_server"
}

# --- the commands ---

start_server() {
  check_port_setting
  python=$(find_python)
  one_start_at_a_time
  if is_running; then
    answers || die "process $pid runs but does not answer at $endpoint; its log is $log"
    say "the local S3 server already runs at $endpoint"
    return
  fi
  choose_server
  check_ports_are_free
  make_credentials
  trap abandon_start EXIT
  trap 'exit 130' INT
  trap 'exit 143' HUP TERM
  launch
  answers || die "the local S3 server did not start; the end of its log $log:
$(tail -n 20 "$log")"
  trap - EXIT HUP INT TERM
  say "the local S3 server runs at $endpoint; 'eval \"\$(bash scripts/local_s3.sh env)\"' makes a shell use it"
}

stop_server() {
  if is_running; then
    end_process
    say "the local S3 server has stopped"
  else
    say "the local S3 server was not running"
  fi
  rm -f "$pid_file"
}

status_server() {
  must_run
  echo "$endpoint"
}

# A profile, a session token or an address only for S3 would override these settings. A proxy cannot reach this machine.
env_server() {
  local name value
  must_run
  echo "unset AWS_PROFILE AWS_DEFAULT_PROFILE AWS_SESSION_TOKEN AWS_ENDPOINT_URL_S3"
  printf 'export AWS_ENDPOINT_URL=%q\n' "$endpoint"
  while IFS='=' read -r name value; do printf 'export %q=%q\n' "$name" "$value"; done <"$credentials"
  echo "export AWS_DEFAULT_REGION=us-east-1"
  if [ -n "${HTTP_PROXY:-}${http_proxy:-}" ]; then
    printf 'export NO_PROXY=%q\n' "127.0.0.1,localhost${NO_PROXY:+,$NO_PROXY}"
  fi
}

# --- the running server ---

must_run() {
  is_running || die "the local S3 server is not running; 'bash scripts/local_s3.sh start' starts it"
}

# Sets pid and endpoint.
is_running() {
  if [ ! -s "$pid_file" ]; then return 1; fi
  read -r pid endpoint <"$pid_file"
  is_ours
}

# Another process may have this number by now; ours has its folder on its command line.
is_ours() {
  case $(command_of "$pid" 2>/dev/null) in
    *"$objects"*) return 0 ;;
    *) return 1 ;;
  esac
}

# Small images have no ps, and a Mac has no /proc.
command_of() { # command_of PROCESS
  if [ -d /proc/self ]; then
    tr '\0' ' ' <"/proc/$1/cmdline"
  else
    ps -ww -o command= -p "$1"
  fi
}

end_process() {
  local tenths=0
  kill "$pid" 2>/dev/null || return 0
  while is_ours; do
    if [ "$tenths" -eq $((seconds_to_stop * 10)) ]; then kill -KILL "$pid" 2>/dev/null || true; fi
    tenths=$((tenths + 1))
    sleep 0.1
  done
}

# --- the steps of a start ---

# Other users can read the data folder, but only its owner can read this one.
make_folder() {
  mkdir -p "$data_dir"
  umask 077
  mkdir -p "$folder"
}

# The credentials are run by a shell, so nobody else may have made or changed them.
require_own_files() {
  local path
  for path in "$folder" "$folder/credentials" "$folder/server.pid"; do
    if [ ! -e "$path" ]; then continue; fi
    if [ ! -O "$path" ] || [ -n "$(find "$path" -prune \( -perm -020 -o -perm -002 \))" ]; then
      die "$path belongs to another user, or others may write to it; delete $folder, or choose another DATA_DIR"
    fi
  done
}

check_port_setting() {
  case $port in
    [1-9][0-9][0-9][0-9] | [1-9][0-9][0-9][0-9][0-9]) ;;
    *) port=0 ;;
  esac
  if [ "$port" -lt 1024 ] || [ "$port" -gt 65535 ]; then
    die -2 "LOCAL_S3_PORT must be a number from 1024 to 65535, not '$LOCAL_S3_PORT'"
  fi
}

one_start_at_a_time() {
  exec 9>"$folder/start.lock"
  lock "$python" 9
}

choose_server() {
  local weed
  weed=$("$python" -c 'import sysconfig; print(sysconfig.get_path("scripts"))')/weed
  [ -x "$weed" ] || weed=$(command -v weed || true)
  if [ -n "$weed" ]; then
    use_seaweedfs "$weed"
  elif "$python" -c 'import moto.server' 2>/dev/null; then
    use_moto
    say "warning: this is moto's server instead of SeaweedFS: it does not check secrets, and loses all objects when it stops"
  else
    die "no local S3 server is installed; 'bash scripts/install.sh --venv train,local' installs one"
  fi
}

# The ports have large gaps, so that servers with neighbouring ports do not collide; they go down if 65535 is near.
# The last port is 10000 above the one before it, because SeaweedFS expects it there and ignores its flag.
# A master that resumes its state can block writers for 15 s after a crash; a fresh one asks the volumes.
# As on AWS, an upload does not create a bucket, and a bucket with objects cannot be deleted.
use_seaweedfs() { # use_seaweedfs WEED
  local step=617 number
  if [ "$port" -gt 50000 ]; then step=-1259; fi
  ports=()
  for number in 0 1 2 3 4 5 6 7 8; do ports+=($((port + number * step))); done
  ports+=($((ports[8] + 10000)))
  server=("$1" -logtostderr=true mini "-dir=$objects" -ip=127.0.0.1 -ip.bind=127.0.0.1
    -master.telemetry=false -master.resumeState=false -volume.preStopSeconds=0
    -admin.ui=false -webdav=false -s3.port.iceberg=0
    "-s3.allowedOrigins=http://127.0.0.1:$port" "-filer.allowedOrigins=http://127.0.0.1:$port"
    -s3.autoCreateBucket=false -s3.allowDeleteBucketNotEmpty=false
    "-s3.port=${ports[0]}" "-s3.port.grpc=${ports[1]}" -s3.localSocket=s3.sock
    "-master.port=${ports[2]}" "-master.port.grpc=${ports[3]}"
    "-volume.port=${ports[4]}" "-volume.port.grpc=${ports[5]}"
    "-filer.port=${ports[6]}" "-filer.port.grpc=${ports[7]}" -filer.localSocket=filer.sock
    "-admin.port=${ports[8]}" "-admin.port.grpc=${ports[9]}")
  # Older versions have neither this port nor the flag.
  case $("$1" help mini 2>&1) in
    *-s3.port.lance*) server+=(-s3.port.lance=0) ;;
  esac
}

# Python ignores this -X option; is_ours recognises the process by it.
use_moto() {
  ports=("$port")
  server=("$python" -X "local_s3=$objects" -m moto.server -H 127.0.0.1 -p "$port")
}

check_ports_are_free() {
  local taken
  taken=$(unusable_ports "$python" "${ports[@]}" | sed -n 1p)
  [ -z "$taken" ] || die "port $taken is in use; choose another LOCAL_S3_PORT (now $port)"
}

make_credentials() {
  if [ -s "$credentials" ]; then return; fi
  "$python" - >"$credentials.new" <<'PYTHON'
import secrets

print(f"AWS_ACCESS_KEY_ID=local{secrets.token_hex(8)}")
print(f"AWS_SECRET_ACCESS_KEY={secrets.token_hex(20)}")
PYTHON
  mv "$credentials.new" "$credentials"
}

# The server gets its own session and none of our open files, so that Ctrl-C or a closed terminal does not end it, and a
# caller's pipe does not wait for it.
launch() {
  local detach='
import os, sys
os.setsid()
os.closerange(3, 256)
os.chdir(sys.argv[1])
os.execvp(sys.argv[2], sys.argv[2:])'
  mkdir -p "$objects"
  (
    use_credentials
    use_signing_keys
    exec "$python" -c "$detach" "$folder" "${server[@]}"
  ) </dev/null >"$log" 2>&1 &
  pid=$!
  endpoint=http://127.0.0.1:$port
  echo "$pid $endpoint" >"$pid_file"
}

use_credentials() {
  set -a
  # shellcheck disable=SC1090
  . "$credentials"
  set +a
  unset AWS_PROFILE AWS_DEFAULT_PROFILE AWS_SESSION_TOKEN  # boto3 would prefer them
  unset S3_BUCKET S3_TABLE_BUCKET S3_EXTERNAL_URL          # SeaweedFS reads these, but they are for other programs
}

# Without these, the internal servers of SeaweedFS let every program read and write all objects.
use_signing_keys() {
  local name
  for name in JWT_FILER_SIGNING_KEY JWT_FILER_SIGNING_READ_KEY JWT_SIGNING_KEY JWT_SIGNING_READ_KEY; do
    export "WEED_$name=$("$python" -c 'import secrets; print(secrets.token_hex(20))')"
  done
}

# Waits for the server. It may list buckets before it can return objects, so this stores and reads a real object.
answers() (
  use_credentials
  "$python" - "$endpoint" "$pid" "$seconds_to_start" <<'PYTHON'
import contextlib
import os
import sys
import time

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

endpoint, pid, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
once = Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1}, proxies={})
s3 = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", config=once)
bucket, key = "local-s3-probe", "probe"


def stores_and_returns_an_object():
    with contextlib.suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key=key, Body=b"probe")
    returned = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    s3.delete_object(Bucket=bucket, Key=key)
    s3.delete_bucket(Bucket=bucket)
    return returned == b"probe"


deadline = time.monotonic() + seconds
while time.monotonic() < deadline:
    try:
        os.kill(pid, 0)
        sys.exit(not stores_and_returns_an_object())
    except ProcessLookupError:
        sys.exit(1)
    except (BotoCoreError, ClientError) as error:
        reason = error
        time.sleep(0.2)
sys.exit(str(reason))
PYTHON
)

abandon_start() {
  if [ -z "${pid:-}" ]; then return; fi
  end_process
  rm -f "$pid_file"
}

main "$@"
