#!/usr/bin/env bash
# The gate and the only definition of green. Needs Rust and a C compiler, no network beyond cargo's own fetch, no
# root, no IPv6. Prints each step's time; the tests come last, so that their closing lines end the output.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}
started=$SECONDS

step() {
    local name=$1 at=$SECONDS
    shift
    echo "== $name"
    "$@"
    echo "== $name: $((SECONDS - at)) s"
}

# The debug binary starts from nothing, on ports of the system's choice, and reports within five seconds.
starts() {
    local dir line
    dir=$(mktemp -d)
    coproc NODE { exec target/debug/detour run --listen 127.0.0.1:0 --admin 127.0.0.1:0 --state-dir "$dir/state" 2>"$dir/log"; }
    local pid=$NODE_PID ok=
    while read -r -t 5 line <&"${NODE[0]}"; do
        echo "$line"
        if [[ $line == ready ]]; then
            ok=yes
            break
        fi
    done
    kill -TERM "$pid" 2>/dev/null || true
    local code=0
    wait "$pid" || code=$?
    if [[ -z $ok || $code -ne 0 ]]; then
        echo "the node did not report, or did not stop in order (exit code $code):"
        cat "$dir/log"
        rm -rf "$dir"
        return 1
    fi
    rm -rf "$dir"
}

step "format" cargo fmt --all --check
step "clippy" cargo clippy --workspace --all-targets --locked -- -D warnings
step "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked --quiet
step "build" cargo build --workspace --all-targets --locked
step "start" starts
step "demo" target/debug/detour demo --quick
step "tests" cargo test --workspace --locked
echo "== all: $((SECONDS - started)) s"
