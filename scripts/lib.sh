# shellcheck shell=bash
# What the scripts share: paths, set-up of tools and test clients, a gateway under test, steps with their time.
# Sourced, never run. Every set-up function is idempotent and returns at once when there is nothing to do.

set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
TARGET="${CARGO_TARGET_DIR:-$ROOT/target}"
EXT="$ROOT/target/ext" # what the external test clients need, apart from what cargo builds
GATEWAY="${RINGGATE_DATAPLANE:-$TARGET/release/ringgate-dataplane}"

die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# What the tests and the demo run. Always built together: cargo picks features by what one command builds, so that building
# them one by one would compile half of the dependencies again.
RELEASE_BUILD=(cargo build --release --locked -p ringgate-dataplane -p ringgate-control -p ringgate-cli -p ringgate-client
  -p ringgate-perf --bins --example demo --example member)

# --- set-up ---------------------------------------------------------------------------------------------------------

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "cannot run '$*': not root and no sudo. Install the packages by hand and start again."
  fi
}

# setup_packages COMMAND:PACKAGE...   installs the Debian package of each command that is missing.
setup_packages() {
  local pair missing=()
  for pair in "$@"; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
  done
  [ ${#missing[@]} = 0 ] && return
  echo "installing Debian packages: ${missing[*]}"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# setup_venv NAME REQUIREMENTS   a Python of its own in target/ext/NAME with pinned packages.
setup_venv() {
  local wanted="$2" home="$EXT/$1"
  if cmp -s "$wanted" "$home/.installed"; then return; fi
  setup_packages python3:python3
  # Debian ships venv's ensurepip apart from python3.
  python3 -c 'import ensurepip, venv' 2>/dev/null ||
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv
  mkdir -p "$EXT"
  python3 -m venv --clear "$home"
  "$home/bin/python" -m pip install --quiet --requirement "$wanted"
  cp "$wanted" "$home/.installed"
}

# The Python of the external tests; and one for each generation of bindings, since two of them share a package's name.
setup_python() {
  setup_venv py "$ROOT/tests/external/python/requirements.txt"
}
setup_bindings() {
  setup_venv slim "$ROOT/tests/external/python/slim/requirements.txt"
  setup_venv agp024 "$ROOT/tests/external/python/agp/requirements-0.2.4.txt"
  setup_venv agp035 "$ROOT/tests/external/python/agp/requirements-0.3.5.txt"
}

# The packages of the Node tests, as locked, in target/ext/node; lib/packages.mjs takes them from there.
setup_node() {
  local source="$ROOT/tests/external/node" stamp="$EXT/node/.installed"
  if cmp -s "$source/package-lock.json" "$stamp"; then return; fi
  setup_packages node:nodejs npm:npm
  mkdir -p "$EXT/node"
  cp "$source/package.json" "$source/package-lock.json" "$EXT/node/"
  (cd "$EXT/node" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
  cp "$source/package-lock.json" "$stamp"
}

setup_cargo_deny() {
  command -v cargo-deny >/dev/null || cargo install --locked cargo-deny --version 0.20.2
}

# --- a gateway under test -------------------------------------------------------------------------------------------

# port_free PORT   true when nothing listens on 127.0.0.1:PORT.
port_free() {
  ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# free_port   prints a port that nothing uses at the moment.
free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# start_gateway DATA_PORT HTTP_PORT [ARGUMENT...]   starts the gateway and returns when it is ready; sets GATEWAY_PID.
start_gateway() {
  local data="$1" http="$2" tries
  shift 2
  [ -x "$GATEWAY" ] || die "no gateway at $GATEWAY: build it with 'cargo build --release -p ringgate-dataplane'"
  port_free "$data" || die "port $data is in use: stop what listens there (see 'ss -ltnp'), then start again"
  port_free "$http" || die "port $http is in use: stop what listens there (see 'ss -ltnp'), then start again"
  "$GATEWAY" --profile development --listen "127.0.0.1:$data" --http "127.0.0.1:$http" "$@" &
  GATEWAY_PID=$!
  for ((tries = 0; tries < 200; tries++)); do
    kill -0 "$GATEWAY_PID" 2>/dev/null || die "the gateway ended at start: its message is above"
    curl --silent --fail --output /dev/null --max-time 2 "http://127.0.0.1:$http/readyz" && return
    sleep 0.05
  done
  stop_gateway
  die "the gateway was not ready within 10 s (http://127.0.0.1:$http/readyz)"
}

# stop_gateway   ends the gateway of start_gateway: drained first, at once when it does not end within 5 s.
stop_gateway() {
  local tries
  [ -n "${GATEWAY_PID:-}" ] || return 0
  kill -TERM "$GATEWAY_PID" 2>/dev/null || true
  for ((tries = 0; tries < 100; tries++)); do
    kill -0 "$GATEWAY_PID" 2>/dev/null || break
    sleep 0.05
  done
  kill -KILL "$GATEWAY_PID" 2>/dev/null || true
  wait "$GATEWAY_PID" 2>/dev/null || true
  GATEWAY_PID=
}

# start_up DATA_PORT CONTROL_PORT HTTP_PORT   starts control process and data plane by `ringgate up`, with their state in ./.ringgate, and
# returns when both are ready; sets UP_PID.
start_up() {
  local data="$1" control="$2" http="$3" port tries
  for port in "$@"; do
    port_free "$port" || die "port $port is in use: stop what listens there (see 'ss -ltnp'), then start again"
  done
  mkdir -p "$EXT"
  "$TARGET/release/ringgate" up --listen "127.0.0.1:$data" --control-listen "127.0.0.1:$control" --http "127.0.0.1:$http" \
    >"$EXT/up.log" 2>&1 &
  UP_PID=$!
  for ((tries = 0; tries < 600; tries++)); do
    kill -0 "$UP_PID" 2>/dev/null || {
      cat "$EXT/up.log" >&2
      die "'ringgate up' ended at start: its message is above"
    }
    grep -q '^The gateway is up' "$EXT/up.log" && return
    sleep 0.1
  done
  stop_up
  die "'ringgate up' was not ready within 60 s; logs: .ringgate/control.log, .ringgate/dataplane.log"
}

# stop_up   ends what start_up started, in good order.
stop_up() {
  [ -n "${UP_PID:-}" ] || return 0
  kill -TERM "$UP_PID" 2>/dev/null || true
  wait "$UP_PID" 2>/dev/null || true
  UP_PID=
}

# --- steps ----------------------------------------------------------------------------------------------------------

STEPS=()     # "name|ok or FAILED|seconds"
SUMMARIES=() # the runners' own summary lines
FAILED=0
LOGS="$EXT/logs"

# step NAME SECONDS_MAX COMMAND...   runs one step, shows its output, keeps it in target/ext/logs, and remembers how it
# went. A failed step does not stop those behind it. A step that runs longer than SECONDS_MAX has failed.
step() {
  local name="$1" seconds_max="$2" began status=ok
  shift 2
  mkdir -p "$LOGS"
  printf '\n=== %s: %s\n' "$name" "$*"
  began=$SECONDS
  if ! timeout --kill-after=10 "$seconds_max" "$@" 2>&1 | tee "$LOGS/$name.log"; then
    status=FAILED
    FAILED=$((FAILED + 1))
  fi
  STEPS+=("$name|$status|$((SECONDS - began))")
  printf '=== %s: %s, %s s\n' "$name" "$status" "$((SECONDS - began))"
}

# sum_of_cargo_tests LOG   cargo's own summary line over all test binaries.
sum_of_cargo_tests() {
  awk '/^test result:/ {
    for (i = 3; i < NF; i++) if ($(i + 1) ~ /^(passed|failed|ignored)/) sum[substr($(i + 1), 1, 6)] += $i
  }
  END {
    printf "test result: %s. %d passed; %d failed; %d ignored\n",
      sum["failed"] ? "FAILED" : "ok", sum["passed"], sum["failed"], sum["ignore"]
  }' "$1"
}

# summary_of_pytest STEP   pytest's own summary line.
summary_of_pytest() {
  grep -aE '(passed|failed|error).* in [0-9.]+s' "$LOGS/$1.log" | tail -1
}

# report   prints what every step did and ends with the runners' own summaries; its status is that of the whole.
report() {
  local line
  printf '\n%-12s %-7s %s\n' step result seconds
  for line in "${STEPS[@]}"; do
    IFS='|' read -r name status seconds <<<"$line"
    printf '%-12s %-7s %s\n' "$name" "$status" "$seconds"
  done
  printf '%s steps, %s failed, %s s\n' "${#STEPS[@]}" "$FAILED" "$SECONDS"
  for line in "${SUMMARIES[@]}"; do printf '%s\n' "$line"; done
  [ "$FAILED" = 0 ]
}
