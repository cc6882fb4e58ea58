# shellcheck shell=bash
# What .ci/run and .ci/full share: steps with their times, tools, and servers that are always ended. To be sourced by bash.

set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never} CARGO_INCREMENTAL=${CARGO_INCREMENTAL:-0}
# What has to be installed once stays here, from run to run.
tools=${KEEPWATCH_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/keepwatch-ci}
mkdir -p "$tools"
export PATH="$tools/bin:$PATH"

# Other projects' test cases; the steps that need them are skipped where they are not.
if [ -z "${KEEPWATCH_CONFORMANCE:-}" ] && [ -d ../shared/corpora ]; then KEEPWATCH_CONFORMANCE=../shared; fi
if [ -n "${KEEPWATCH_CONFORMANCE:-}" ]; then
  KEEPWATCH_CONFORMANCE=$(cd "$KEEPWATCH_CONFORMANCE" && pwd)
  export KEEPWATCH_CONFORMANCE
fi

# ---- Steps ----

passed=0 failed=0 skipped=0 summary=()
skip=77 # the status of a step that was skipped

# step NAME COMMAND [ARGUMENT..]: runs it in a shell of its own and goes on, whatever becomes of it.
step() {
  local name=$1 status started=$SECONDS result
  shift
  printf '\n=== %s\n' "$name"
  # Not in a condition: there `set -e` would not hold inside.
  set +e
  ( set -e; "$@" ) </dev/null
  status=$?
  set -e
  case $status in
    0) result=passed passed=$((passed + 1)) ;;
    "$skip") result=skipped skipped=$((skipped + 1)) ;;
    *) result=FAILED failed=$((failed + 1)) ;;
  esac
  summary+=("$(printf '%-44s %-8s %5d s' "$name" "$result" $((SECONDS - started)))")
  printf -- '--- %s: %s, %d s\n' "$name" "$result" $((SECONDS - started))
}

# Prints the table of the steps; the status is that of the whole run.
conclude() {
  printf '\n%-44s %-8s %7s\n' step result time
  printf '%s\n' "${summary[@]}"
  printf '%-44s %-8s %5d s\n\n' all '' "$SECONDS"
  printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
  [ "$failed" -eq 0 ]
}

# row SUITE SUBJECT RESULT: a line of the report that .ci/full writes.
row() {
  [ -z "${report:-}" ] || printf '| %s | %s | %s |\n' "$@" >>"$report"
}

needs_conformance() {
  if [ -z "${KEEPWATCH_CONFORMANCE:-}" ]; then
    echo "skipped: KEEPWATCH_CONFORMANCE names no folder with the cases of other projects"
    exit "$skip"
  fi
}

# ---- Tools ----

# quietly COMMAND..: its output only if it fails.
quietly() {
  local log status=0
  log=$(mktemp)
  "$@" >"$log" 2>&1 || status=$?
  [ "$status" -eq 0 ] || tail -n 50 "$log" >&2
  rm -f "$log"
  return "$status"
}

# cargo_tool NAME: installs a cargo subcommand, quickly rather than optimized.
cargo_tool() {
  command -v "$1" >/dev/null && return
  echo "installing $1"
  CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
    CARGO_TARGET_DIR="$tools/build" quietly cargo install --locked --root "$tools" "$1"
  rm -rf "$tools/build"
}

# python_tool ARGUMENTS..: what pip is to install into an environment of our own, at $tools/python.
python_tool() {
  [ -x "$tools/python/bin/pip" ] || quietly python3 -m venv "$tools/python"
  quietly "$tools/python/bin/pip" install -q --disable-pip-version-check "$@"
}

# npm_tool FOLDER: installs what the lock file in this folder names into one of our own, at $tools/node.
npm_tool() {
  command -v npm >/dev/null || debian_package npm
  mkdir -p "$tools/node"
  cp "$1/package.json" "$1/package-lock.json" "$tools/node"
  quietly npm --prefix "$tools/node" ci --ignore-scripts --no-audit --no-fund
}

# What Debian has, with sudo where that is needed.
debian_update() {
  quietly "${as_root[@]}" apt-get update -q
}
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)

# debian_package NAME..: installs packages.
debian_package() {
  local name missing=()
  for name in "$@"; do dpkg -s "$name" >/dev/null 2>&1 || missing+=("$name"); done
  [ ${#missing[@]} -eq 0 ] && return
  echo "installing ${missing[*]}"
  debian_update
  DEBIAN_FRONTEND=noninteractive quietly "${as_root[@]}" apt-get install -q -y --no-install-recommends "${missing[@]}"
}

# ---- Servers ----

# serve COMMAND..: starts a server on a port of the system's choice. Sets `server` to its process and `address` to HOST:PORT.
# It is ended with the step's shell at the latest.
serve() {
  local said waited=0
  said=$(mktemp)
  "$@" >"$said" &
  server=$!
  servers+=("$server")
  trap end_servers EXIT
  until address=$(sed -n 's|^listening on http://||p' "$said" | head -n 1) && [ -n "$address" ]; do
    if ! kill -0 "$server" 2>/dev/null || [ $((waited += 1)) -gt 600 ]; then
      echo "$1 did not get ready" >&2
      return 1
    fi
    sleep 0.1
  done
  rm -f "$said"
}
servers=()

end_servers() {
  local server
  for server in "${servers[@]}"; do
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true # the status of what a signal ended
  done
  servers=()
}
