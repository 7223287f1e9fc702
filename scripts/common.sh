# All scripts source this file: strict mode, the project's root, its Python, functions for help, progress and errors.
# shellcheck shell=bash

# sh and zsh can run the script up to this point.
case ${BASH_VERSION:-}:${SHELLOPTS:-} in
  :* | *posix*)
    echo "run the scripts of this project with bash, for example: bash scripts/quickstart.sh" >&2
    exit 2
    ;;
esac
set -euo pipefail

script=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
caller_dir=$PWD
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit

say() { echo "==> $*" >&2; }

die() { # die [-STATUS] MESSAGE
  local status=1
  case $1 in -[0-9]*) status=${1#-}; shift ;; esac
  echo "$(basename "$script"): $*" >&2
  exit "$status"
}

# Runs a command with its stderr in a file, and shows the end of the file if the command fails. On a terminal, one line
# shows the seconds so far and the last line of the file.
with_progress() { # with_progress LOG WHAT COMMAND [ARGUMENT ...]
  local log=$1 what=$2 status=0 follower=
  shift 2
  say "$what"
  : >"$log"
  if [ -t 2 ]; then follow "$log" "$what" >&2 & follower=$!; fi
  ("$@") 2>"$log" || status=$?  # in a subshell, so that the traps of this shell print to the terminal
  if [ -n "$follower" ]; then
    kill "$follower" 2>/dev/null || true
    wait "$follower" 2>/dev/null || true
    printf '\r\033[K' >&2
  fi
  if [ "$status" != 0 ]; then tail -n 20 "$log" >&2; fi
  return "$status"
}

# Ends when this script ends.
follow() { # follow LOG WHAT
  local start=$SECONDS last columns LC_ALL=C
  columns=$(tput cols 2>/dev/null || echo 80)
  while kill -0 $$ 2>/dev/null; do
    last=$(tail -n 1 "$1" | tr '\r' '\n' | tr -cd '[:print:]\n' | awk 'NF { last = $0 } END { print last }')
    printf '\r\033[K%.*s' $((columns - 1)) "    $((SECONDS - start)) s  ${last#==> }"
    sleep 1
  done
}

# Succeeds if this process gets a lock on the file that the caller has opened as DESCRIPTOR. The kernel releases it when
# the process and its children have ended.
lock() { # lock PYTHON DESCRIPTOR [LOCK_NB]
  "$1" -c 'import fcntl, sys
try:
    fcntl.flock(int(sys.argv[1]), fcntl.LOCK_EX | getattr(fcntl, sys.argv[2], 0))
except BlockingIOError:
    sys.exit(1)' "$2" "${3:-}"
}

# Prints those of some ports of 127.0.0.1 on which no server can listen.
unusable_ports() { # unusable_ports PYTHON PORT ...
  "$1" - "${@:2}" <<'PYTHON'
import socket
import sys

for port in map(int, sys.argv[1:]):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            print(port)
PYTHON
}

# The help is the comment at the start of the script.
usage() { awk 'NR > 1 && (!/^#/ || /^# shellcheck/) { exit } NR > 1 { sub(/^# ?/, ""); print }' "$script"; }

help_if_asked() {
  case ${1:-} in -h | --help) usage; exit 0 ;; esac
}

# Names an option or argument that the script does not have.
refuse() { # refuse ARGUMENT
  die -2 "'$1' is not an option or argument of this script; see: bash scripts/$(basename "$script") --help"
}

# Makes a path absolute: relative paths are those of the caller's folder, but scripts run in the project's root.
absolute() { case $1 in /*) echo "$1" ;; *) echo "$caller_dir/$1" ;; esac; }

# The Python that creates .venv: the caller's choice, or else the first one on the path that is new enough.
base_python() {
  local candidate candidates=(python3 python3.13 python3.12 python3.11)
  if [ -n "${PYTHON:-}" ]; then candidates=("$PYTHON"); fi
  for candidate in "${candidates[@]}"; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  die "${candidates[0]} is not Python 3.11 or later; set PYTHON=/path/to/python3 to another one"
}

# The Python that has pmip: the caller's choice, or else the one on the path, or else the project's .venv.
# -I removes the working directory from its path, because there pmip/ can be imported without its dependencies.
find_python() {
  local candidate
  if [ -n "${PYTHON:-}" ]; then echo "$PYTHON"; return; fi
  for candidate in python3 "$root/.venv/bin/python"; do
    if "$candidate" -Ic 'import pmip' 2>/dev/null; then echo "$candidate"; return; fi
  done
  die "pmip is not installed; 'bash scripts/install.sh --venv' installs it into .venv"
}
