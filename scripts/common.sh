# Sourced by every script: the project's root, its Python, and one way to print help, progress and errors.
# shellcheck shell=bash

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

# The comment at the head of the script is its help.
usage() { awk 'NR > 1 && !/^#/ { exit } NR > 1 { sub(/^# ?/, ""); print }' "$script"; }

help_if_asked() {
  case ${1:-} in -h | --help) usage; exit 0 ;; esac
}

# A path as the caller meant it: scripts work from the root, whatever folder they are called from.
absolute() { case $1 in /*) echo "$1" ;; *) echo "$caller_dir/$1" ;; esac; }

# The Python that has pmip: the caller's choice, else the one on the path, else the project's .venv.
# -I keeps the working directory off its path, where pmip/ is always importable but its dependencies may not be.
find_python() {
  local candidate
  if [ -n "${PYTHON:-}" ]; then echo "$PYTHON"; return; fi
  for candidate in python3 "$root/.venv/bin/python"; do
    if "$candidate" -Ic 'import pmip' 2>/dev/null; then echo "$candidate"; return; fi
  done
  die "pmip is not installed; 'bash scripts/install.sh --venv' installs it into .venv"
}
