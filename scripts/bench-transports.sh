#!/usr/bin/env bash
# What providers cost over each transport, and what it takes when one of them breaks; writes docs/TRANSPORTS.md.
#
#   scripts/bench-transports.sh [--detour FILE] [--examples DIRECTORY] [--dnsdist FILE] [--dnsperf FILE]
#                               [--seconds N] [--rounds N] [--out FILE] [MODE...]
#
# Modes, all of them unless told: faults (half an hour), few (ten minutes), cost (some minutes). The page keeps what it has
# of modes that are not run. DIRECTORY holds the examples transports, trickle and fakes of the rig. For cost the server has
# one core to itself; dnsperf and the fake share another. Not part of the gate.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C

target=${CARGO_TARGET_DIR:-target}
detour=$target/release/detour
examples=$target/release/examples
dnsdist=$(command -v dnsdist || true)
dnsperf=$(command -v dnsperf || true)
seconds=5
rounds=3
out=docs/TRANSPORTS.md
modes=()

usage() {
    sed -n '2,9s/^# \{0,1\}//p' "$0"
    exit 64
}

while (($#)); do
    case $1 in
    --detour | --examples | --dnsdist | --dnsperf | --seconds | --rounds | --out)
        (($# > 1)) || usage
        printf -v "${1#--}" %s "$2"
        shift
        ;;
    faults | few | cost) modes+=("$1") ;;
    *) usage ;;
    esac
    shift
done
((${#modes[@]})) || modes=(faults few cost)

for needed in "$detour" "$examples"/{transports,trickle,fakes}; do
    if [[ ! -x $needed ]]; then
        echo "bench-transports: no $needed: cargo build --release -p detour; cargo build --release -p detour-rig --examples" >&2
        exit 1
    fi
done

transports=(udp tcp dot doh doq doh3)
work=$(mktemp -d)
pids=()
stop_all() {
    local pid
    for pid in "${pids[@]}"; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    pids=()
}
trap 'stop_all; rm -rf "$work"' EXIT

# Runs a command for each transport, so many at once, and writes its rows in their order. A promise that was not kept is in
# its row.
for_each() {
    local at_once=$1 transport running=0
    shift
    for transport in "${transports[@]}"; do
        if ((running >= at_once)); then
            wait -n || true
            running=$((running - 1))
        fi
        ("$@" --node "$detour" --transport "$transport" >"$work/row.$transport" 2>"$work/errors.$transport" || true) &
        running=$((running + 1))
    done
    wait
    for transport in "${transports[@]}"; do cat "$work/row.$transport"; done | tee -a /dev/stderr
    cat "$work"/errors.* >&2
}

# --- one provider of three breaks --------------------------------------------------------------------------------------

title_faults="One provider of three breaks"
mode_faults() {
    cat <<'END'
By `rig/examples/transports`: 100 new names a second for 20 s, three providers that answer in 10 ms; after 4 s the one that
was asked most breaks, 6 s later it is mended. *Hurt*: lost, wrong, in error, or more than 250 ms late. *Left*: from the
fault until the endpoint's place is not the normal one; *back*: from its end until it is (then its share grows for 5 s).
*Worst*: the longest answer since the fault. Handshakes are what that provider saw since the fault, probes included; of TCP
they are connections. Resumed sessions need no certificate.

END
    "$examples/transports" --node "$detour" --transport udp --fault http500 | head -2
    for_each 2 "$examples/transports" --rows-only
}

# --- few queries -------------------------------------------------------------------------------------------------------

title_few="A query every 15 seconds"
mode_few() {
    cat <<'END'
By `rig/examples/trickle`: three providers at a distance of 25 ms there and back that close connections after 10 s without a
query; first 120 queries 50 ms apart, then one every 15 s for ten minutes. Milliseconds. Kept: the 95th percentile is within
one handshake of the one on connections that stand, and less than one query in twenty is hedged.

| transport | standing: p50 | p95 | most | every 15 s: p50 | p95 | most | queries | hedges | retries | connections | promise |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |
END
    for_each 6 "$examples/trickle" --speed 1 --minutes 10 --markdown
}

# --- cost per query ----------------------------------------------------------------------------------------------------

server_core=0
load_core=1
port=5391
name=fake1.detour.test
ticks=$(getconf CLK_TCK)

endpoint_of() {
    case $1 in
    udp) echo "udp://127.0.0.1:5401" ;;
    tcp) echo "tcp://127.0.0.1:5401" ;;
    dot) echo "tls://127.0.0.1:5411#$name" ;;
    doh) echo "https://127.0.0.1:5421/dns-query#$name" ;;
    doq) echo "quic://127.0.0.1:5431#$name" ;;
    doh3) echo "h3://127.0.0.1:5441/dns-query#$name" ;;
    esac
}
backend_of() {
    local tls="tls=\"openssl\", subjectName=\"$name\", validateCertificates=true, caStore=\"$work/ca.pem\""
    case $1 in
    udp) echo "{address=\"127.0.0.1:5401\"}" ;;
    tcp) echo "{address=\"127.0.0.1:5401\", tcpOnly=true}" ;;
    tcp_many) echo "{address=\"127.0.0.1:5401\", tcpOnly=true, maxInFlight=100}" ;;
    dot) echo "{address=\"127.0.0.1:5411\", $tls}" ;;
    dot_many) echo "{address=\"127.0.0.1:5411\", $tls, maxInFlight=100}" ;;
    doh) echo "{address=\"127.0.0.1:5421\", $tls, dohPath=\"/dns-query\"}" ;;
    esac
}
words_of() {
    case $2 in
    *_many) echo "$1, 100 in flight ; ${2%_many}" ;;
    *) echo "$1 ; $2" ;;
    esac
}
prepare_detour() {
    cat >"$work/detour.toml" <<END
version = 1
trust = ["$work/ca.pem"]
[listen]
dns = ["127.0.0.1:$port"]
admin = "off"
[[provider]]
name = "far-end"
endpoints = ["$(endpoint_of "$1")"]
[select]
encryption = "any"
[cache]
persist = "off"
[limits]
in-flight = 65536
END
    command=("$detour" run -c "$work/detour.toml" --state-dir "$work/state")
}
prepare_dnsdist() {
    cat >"$work/dnsdist.conf" <<END
setLocal("127.0.0.1:$port")
setACL({"127.0.0.0/8"})
setSecurityPollSuffix("")
setMaxUDPOutstanding(65535)
newServer($(backend_of "$1"))
END
    command=("$dnsdist" --supervised --disable-syslog -C "$work/dnsdist.conf")
}
cpu_of() { sed 's/^.*) //' "/proc/$1/stat" | cut -d' ' -f12,13; }
ask() { taskset -c $load_core "$dnsperf" -s 127.0.0.1 -p "$port" "$@"; }

# A round of new names: "total user answers/s lost".
round() {
    local before after
    before=$(cpu_of "$server")
    ask -d "$work/names" -q 100 -c 4 -l "$seconds" >"$work/dnsperf" 2>/dev/null
    after=$(cpu_of "$server")
    awk -v b="$before" -v a="$after" -v hz="$ticks" '
        /Queries completed:/ { n = $3 } /Queries lost:/ { lost = $3 } /Queries per second:/ { qps = $4 }
        END { split(b, x); split(a, y); if (n == 0) n = 1; user = (y[1] - x[1]) * 1e6 / hz / n
              printf "%.2f %.2f %.0f %d\n", user + (y[2] - x[2]) * 1e6 / hz / n, user, qps, lost }' "$work/dnsperf"
}
cost() {
    local server_name=$1 transport=$2 tries line
    "prepare_$server_name" "$transport"
    taskset -c $load_core "$examples/fakes" --count 1 --law flat:0 --ca-directory "$work" </dev/null >/dev/null 2>&1 &
    pids+=($!)
    for ((tries = 0; tries < 50; tries++)); do
        if [[ -s $work/ca.pem ]]; then break; fi
        rest 0.1
    done
    rest 0.3
    taskset -c $server_core "${command[@]}" >"$work/server.log" 2>&1 &
    server=$!
    pids+=("$server")
    for ((tries = 0; tries < 50; tries++)); do
        if ask -d "$work/first" -q 1 -n 1 -t 1 -l 1 2>/dev/null | grep -q 'NOERROR'; then break; fi
        rest 0.1
    done
    line=$(for ((tries = 0; tries < rounds; tries++)); do round; done | sort -n | awk '{ l[NR] = $0 } END { print l[int((NR + 1) / 2)] }')
    read -r total user qps lost <<<"$line"
    printf '| %s | %s | %s | %s | %s |\n' "$(words_of "$server_name" "$transport" | sed 's/ ; / | /')" "$user" "$total" "$qps" "$lost" |
        tee -a /dev/stderr
    stop_all
    rm -rf "$work/ca.pem" "$work/state"
}
# Seconds in which nothing is done; no process for it.
rest() { read -r -t "$1" <> <(:) || true; }

title_cost="Cost per query"
mode_cost() {
    local transport
    if [[ -z $dnsperf ]]; then
        echo "bench-transports: dnsperf is needed" >&2
        exit 1
    fi
    awk 'BEGIN { for (i = 0; i < 2000000; i++) printf "n%d.cedar-mill.org A\n", i }' >"$work/names"
    echo "first.cedar-mill.org A" >"$work/first"
    cat <<END
New names only, 100 queries outstanding over UDP, $seconds s, median of $rounds; one provider on the other core, a fake of the
rig that answers at once and is the same for all. CPU microseconds per answer of the server alone, as in docs/BENCHMARKS.md;
answers per second are what the fake and dnsperf let through on one core.

| server | to the provider by | user | total | answers/s | lost |
| --- | --- | ---: | ---: | ---: | ---: |
END
    for transport in "${transports[@]}"; do cost detour "$transport"; done
    if [[ -n $dnsdist ]]; then
        for transport in udp tcp tcp_many dot dot_many doh; do cost dnsdist "$transport"; done
        printf '\ndnsdist waits for an answer before it sends the next query on a connection of TCP or TLS unless `maxInFlight` says\notherwise; it speaks neither DoQ nor DoH3 to providers. It checks the same certificate.\n'
    else
        printf '\ndnsdist was not there.\n'
    fi
}

# --- the page ----------------------------------------------------------------------------------------------------------

version_of() { "$@" 2>&1 | head -1 || true; }
# What the page has under a heading so far.
kept() { if [[ -f $out ]]; then awk -v want="## $1" '/^## / { on = ($0 == want) } on && !/^## /' "$out"; fi; }

for mode in faults few cost; do
    title=title_$mode
    : >"$work/section.$mode"
    if [[ " ${modes[*]} " == *" $mode "* ]]; then
        {
            printf '\n%s; Detour %s.\n\n' "$(date -u +%Y-%m-%d)" "$(git describe --always --dirty 2>/dev/null || echo unknown)"
            "mode_$mode"
        } >"$work/section.$mode"
    else
        kept "${!title}" >"$work/section.$mode"
    fi
done
{
    cat <<END
# Transports

Written by \`scripts/bench-transports.sh\`; run it again rather than believe it. Everything is on one machine, so what is
compared is what Detour does, not what networks are like.

* Machine: $(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo), $(nproc) cores, Linux $(uname -r)
* Detour: $(version_of "$detour" --version)
END
    if [[ -n $dnsdist ]]; then echo "* dnsdist: $(version_of "$dnsdist" --version)"; fi
    for mode in faults few cost; do
        title=title_$mode
        if [[ -s $work/section.$mode ]]; then
            printf '\n## %s\n' "${!title}"
            # One empty line before and none behind.
            awk 'NF { for (; gap > 0; gap--) print ""; print; next } { gap++ }' <(echo; sed '/./,$!d' "$work/section.$mode")
        fi
    done
    # What was written by hand about earlier figures stays.
    if [[ -f $out ]]; then sed -n '/^## What the figures say/,$p' "$out" | sed '1i\\'; fi
} >"$work/page"
cp "$work/page" "$out"
echo "written: $out"
