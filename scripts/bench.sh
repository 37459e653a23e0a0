#!/usr/bin/env bash
# Detour side by side with what a user would pick instead, in one run on this machine; writes a Markdown page.
#
#   scripts/bench.sh [--detour FILE] [--dnsdist FILE] [--unbound FILE] [--hickory FILE] [--dnsperf FILE]
#                    [--h2load FILE] [--responder FILE] [--seconds N] [--rounds N] [--out FILE] [MODE...]
#
# Modes, all of them unless told: hits rate misses ports tcp dot doh zipf memory flood overload outage start.
# doh is measured by h2load: of several replies in one TLS record dnsperf (2.10) counts the last one.
# The server has one core to itself; dnsperf and the far end (rig/examples/responder.rs) share another. CPU time is that
# of the whole server process, from /proc/PID/stat, by the answers dnsperf counted. A program that is not there is left
# out and named. Not part of the gate.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C

target=${CARGO_TARGET_DIR:-target}
detour=$target/release/detour
responder=$target/release/examples/responder
dnsdist=$(command -v dnsdist || true)
unbound=$(command -v unbound || command -v /usr/sbin/unbound || true)
hickory=$(command -v hickory-dns || true)
dnsperf=$(command -v dnsperf || true)
h2load=$(command -v h2load || true)
seconds=5
rounds=3
out=docs/BENCHMARKS.md
modes=()

usage() {
    sed -n '2,12s/^# \{0,1\}//p' "$0"
    exit 64
}

while (($#)); do
    case $1 in
    --detour | --dnsdist | --unbound | --hickory | --dnsperf | --h2load | --responder | --seconds | --rounds | --out)
        (($# > 1)) || usage
        printf -v "${1#--}" %s "$2"
        shift
        ;;
    hits | rate | misses | ports | tcp | dot | doh | zipf | memory | flood | overload | outage | start) modes+=("$1") ;;
    *) usage ;;
    esac
    shift
done
((${#modes[@]})) || modes=(hits rate misses ports tcp dot doh zipf memory flood overload outage start)

for needed in "$detour" "$responder"; do
    if [[ ! -x $needed ]]; then
        echo "bench: no $needed: cargo build --release -p detour && cargo build --release -p detour-rig --example responder" >&2
        exit 1
    fi
done
if [[ -z $dnsperf ]]; then
    echo "bench: dnsperf is needed" >&2
    exit 1
fi
if (($(nproc) < 2)); then
    echo "bench: two cores are needed, one for the server and one for the load" >&2
    exit 1
fi

server_core=0
load_core=1
port=5391
plain_port=5392
far_port=5390
ticks=$(getconf CLK_TCK)
work=$(mktemp -d)
pids=()
stop_all() {
    local pid
    for pid in "${pids[@]}"; do
        kill "$pid" 2>/dev/null || true
        kill -CONT "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    pids=()
}
trap 'stop_all; rm -rf "$work"' EXIT

# --- what is asked -----------------------------------------------------------------------------------------------------

hit_names=1000
awk -v n=$hit_names 'BEGIN { for (i = 0; i < n; i++) printf "host%d.example.com A\n", i }' >"$work/hits"
# The same as URLs of DNS over HTTPS.
urls() {
    awk -v base="$1" 'BEGIN {
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        for (i = 0; i < 128; i++) code[sprintf("%c", i)] = i
    }
    function put(byte) {
        bits = bits * 256 + byte
        for (held += 8; held >= 6; held -= 6) {
            digit = int(bits / 2 ^ (held - 6)); bits -= digit * 2 ^ (held - 6); text = text substr(letters, digit + 1, 1)
        }
    }
    {
        text = ""; bits = held = 0
        put(0); put(0); put(1); put(0); put(0); put(1)
        for (i = 0; i < 6; i++) put(0)
        n = split($1, labels, ".")
        for (i = 1; i <= n; i++) {
            put(length(labels[i]))
            for (j = 1; j <= length(labels[i]); j++) put(code[substr(labels[i], j, 1)])
        }
        put(0); put(0); put(1); put(0); put(1)
        if (held > 0) text = text substr(letters, bits * 2 ^ (6 - held) + 1, 1)
        print base text
    }' "$work/hits"
}
urls "https://127.0.0.1:$port/dns-query?dns=" >"$work/urls"
# New names: more than are asked in any run, so that none is asked twice while it is remembered.
fresh() { awk -v n="$1" -v tag="$2" 'BEGIN { for (i = 0; i < n; i++) printf "n%d.%s.example.org A\n", i, tag }'; }
fresh 3000000 m >"$work/misses"
# Nine queries in ten go to a tenth of the names.
awk 'BEGIN { srand(7); for (i = 0; i < 600000; i++) {
    n = rand() < 0.9 ? int(rand() * 20000) : 20000 + int(rand() * 180000); printf "z%d.example.net A\n", n } }' >"$work/zipf"
fresh 200000 k >"$work/kept"
# What a page needs: its answers live for a second.
page_names=40
awk -v n=$page_names 'BEGIN { for (i = 0; i < n; i++) printf "brief%d.example.net A\n", i }' >"$work/page-names"

# --- who answers -------------------------------------------------------------------------------------------------------

# Each writes what the server needs and leaves its command in `command`.
prepare_echo() { command=("$responder" echo "127.0.0.1:$port"); }
prepare_echo_batched() { command=("$responder" echo-batched "127.0.0.1:$port"); }
prepare_detour() {
    cat >"$work/detour.toml" <<END
version = 1
[listen]
dns = ["127.0.0.1:$port"]
admin = "off"
[[provider]]
name = "far-end"
endpoints = ["udp://127.0.0.1:$far_port"]
[network]
enabled = false
[select]
encryption = "any"
${detour_select:-}
[cache]
persist = "off"
[limits]
in-flight = 65536
END
    command=("$detour" run -c "$work/detour.toml" --state-dir "$work/state")
}
dnsdist_lines() {
    cat <<END
setLocal("127.0.0.1:$port")
setACL({"127.0.0.0/8"})
setSecurityPollSuffix("")
newServer({address="127.0.0.1:$far_port"})
getPool(""):setCache(newPacketCache(300000, {maxTTL=86400, staleTTL=30}))
setStaleCacheEntriesTTL(86400)
setMaxUDPOutstanding(65535)
END
}
prepare_dnsdist() {
    dnsdist_lines >"$work/dnsdist.conf"
    command=("$dnsdist" --supervised --disable-syslog -C "$work/dnsdist.conf")
}
prepare_dnsdist_vector() {
    (
        dnsdist_lines
        echo 'setUDPMultipleMessagesVectorSize(16)'
    ) >"$work/dnsdist-vector.conf"
    command=("$dnsdist" --supervised --disable-syslog -C "$work/dnsdist-vector.conf")
}
prepare_dnsdist_random() {
    (
        dnsdist_lines
        echo 'setUDPMultipleMessagesVectorSize(16)'
        echo 'setRandomizedIdsOverUDP(true)'
        echo 'setRandomizedOutgoingSockets(true)'
    ) >"$work/dnsdist-random.conf"
    command=("$dnsdist" --supervised --disable-syslog -C "$work/dnsdist-random.conf")
}
prepare_unbound() {
    cat >"$work/unbound.conf" <<END
server:
    interface: 127.0.0.1@$port
    access-control: 127.0.0.0/8 allow
    do-daemonize: no
    use-syslog: no
    logfile: "$work/unbound.log"
    chroot: ""
    username: ""
    pidfile: ""
    directory: "$work"
    num-threads: 1
    so-reuseport: yes
    outgoing-range: 4096
    num-queries-per-thread: 4096
    msg-cache-size: 64m
    rrset-cache-size: 128m
    do-not-query-localhost: no
    module-config: "iterator"
    serve-expired: yes
    serve-expired-client-timeout: 1800
    incoming-num-tcp: 100
forward-zone:
    name: "."
    forward-addr: 127.0.0.1@$far_port
remote-control:
    control-enable: no
END
    command=("$unbound" -d -c "$work/unbound.conf")
}
prepare_hickory() {
    cat >"$work/hickory.toml" <<END
listen_addrs_ipv4 = ["127.0.0.1"]
listen_port = $port
user = "$(id -un)"
group = "$(id -gn)"
[[zones]]
zone = "."
zone_type = "External"
[zones.stores]
type = "forward"
name_servers = [{ ip = "127.0.0.1", trust_negative_responses = true, connections = [{ port = $far_port, protocol = { type = "udp" } }] }]
END
    command=("$hickory" --quiet -c "$work/hickory.toml")
}

# The same over TLS and HTTPS, where they can; plain DNS goes to another port.
pem() { [[ -e $work/cert.pem ]] || "$detour" cert self-signed --name bench.example --out "$work" >/dev/null; }
prepare_detour_encrypted() {
    pem
    prepare_detour
    sed -i "s|^dns = .*|dns = [\"127.0.0.1:$plain_port\"]\n$1 = [\"127.0.0.1:$port\"]\ncert = \"cert.pem\"\nkey = \"key.pem\"|" "$work/detour.toml"
}
prepare_detour_dot() { prepare_detour_encrypted tls; }
prepare_detour_doh() { prepare_detour_encrypted https; }
prepare_dnsdist_encrypted() {
    pem
    (
        dnsdist_lines | sed "s/^setLocal.*/setLocal(\"127.0.0.1:$plain_port\")/"
        echo "$1"
    ) >"$work/dnsdist-encrypted.conf"
    command=("$dnsdist" --supervised --disable-syslog -C "$work/dnsdist-encrypted.conf")
}
prepare_dnsdist_dot() { prepare_dnsdist_encrypted "addTLSLocal('127.0.0.1:$port', '$work/cert.pem', '$work/key.pem')"; }
prepare_dnsdist_doh() {
    prepare_dnsdist_encrypted "addDOHLocal('127.0.0.1:$port', '$work/cert.pem', '$work/key.pem', '/dns-query')"
}
prepare_unbound_encrypted() {
    pem
    prepare_unbound
    sed -i "s|^server:|server:\n    $1: $port\n    tls-service-key: \"$work/key.pem\"\n    tls-service-pem: \"$work/cert.pem\"|" "$work/unbound.conf"
}
prepare_unbound_dot() { prepare_unbound_encrypted tls-port; }
prepare_unbound_doh() { prepare_unbound_encrypted https-port; }

words_of() {
    case $1 in
    echo) echo "UDP echo, one datagram a call" ;;
    echo_batched) echo "UDP echo, up to 16 a call" ;;
    detour | detour_d*) echo "**Detour**" ;;
    dnsdist | dnsdist_d*) echo "dnsdist, as shipped" ;;
    dnsdist_vector) echo "dnsdist, vector size 16" ;;
    dnsdist_random) echo "dnsdist, vector size 16, random ids" ;;
    unbound | unbound_d*) echo "unbound" ;;
    hickory) echo "hickory-dns" ;;
    esac
}

absent=()
others=()
if [[ -n $dnsdist ]]; then
    others+=(dnsdist dnsdist_vector)
    prepare_dnsdist_random
    if "$dnsdist" --check-config -C "$work/dnsdist-random.conf" >/dev/null 2>&1; then
        others+=(dnsdist_random)
    else
        absent+=("dnsdist with randomised ids (this version cannot)")
    fi
else
    absent+=(dnsdist)
fi
if [[ -n $unbound ]]; then others+=(unbound); else absent+=(unbound); fi
if [[ -n $hickory ]]; then others+=(hickory); else absent+=(hickory-dns); fi

# How dnsperf asks: over UDP unless told otherwise.
carrier=()
ask() { taskset -c $load_core "$dnsperf" "${carrier[@]}" -s 127.0.0.1 -p "$port" "$@"; }

# Starts the far end and the server, and waits for its first answer.
start() {
    local tries
    taskset -c $load_core "$responder" answer "127.0.0.1:$far_port" &
    pids+=($!)
    "prepare_$1"
    taskset -c $server_core "${command[@]}" >"$work/$1.log" 2>&1 &
    server=$!
    pids+=($server)
    for ((tries = 0; tries < 50; tries++)); do
        if ask -d "$work/hits" -q 1 -n 1 -t 1 -l 1 2>/dev/null | grep -q 'Queries completed: *[1-9]'; then
            return 0
        fi
        if ! kill -0 "$server" 2>/dev/null; then break; fi
    done
    echo "bench: $1 does not answer:" >&2
    tail -5 "$work/$1.log" >&2
    return 1
}

# CPU ticks so far: user, system.
cpu_of() { sed 's/^.*) //' "/proc/$1/stat" | cut -d' ' -f12,13; }
resident_kib() { awk '/^VmRSS/ { print $2 }' "/proc/$1/status"; }

# Runs dnsperf with these arguments; leaves completed, lost, qps, user_us and total_us.
measure() {
    local before after
    before=$(cpu_of "$server")
    ask "$@" >"$work/dnsperf" 2>/dev/null
    after=$(cpu_of "$server")
    completed=$(awk '/Queries completed:/ { print $3 }' "$work/dnsperf")
    lost=$(awk '/Queries lost:/ { print $3 }' "$work/dnsperf")
    qps=$(awk '/Queries per second:/ { printf "%.0f", $4 }' "$work/dnsperf")
    read -r user_us total_us < <(awk -v b="$before" -v a="$after" -v n="${completed:-0}" -v hz="$ticks" 'BEGIN {
        split(b, x); split(a, y); if (n == 0) n = 1
        user = (y[1] - x[1]) * 1e6 / hz / n; printf "%.2f %.2f\n", user, user + (y[2] - x[2]) * 1e6 / hz / n }')
}

# Percentiles of what `dnsperf -v` printed, microseconds.
percentiles() {
    awk '/^> / { print $NF * 1e6 }' "$work/dnsperf" | sort -n | awk '{ v[NR] = $1 } END {
        if (NR == 0) { print "- - -"; exit }
        printf "%.0f %.0f %.0f\n", v[int((NR - 1) * .5) + 1], v[int((NR - 1) * .99) + 1], v[int((NR - 1) * .999) + 1] }'
}

# The round with the median total of the lines "total rest...".
median() { sort -n | awk '{ line[NR] = $0 } END { print line[int((NR + 1) / 2)] }'; }

rows=$work/rows
row() { printf '| %s |\n' "$(printf '%s' "$*" | sed 's/ ; / | /g')" | tee -a "$rows"; }
heading() { printf '\n## %s\n\n%s\n\n' "$1" "$2" | tee -a "$rows"; }

# --- what is measured --------------------------------------------------------------------------------------------------

each() {
    local run=$1 name
    shift
    for name in "$@"; do
        if start "$name"; then "$run" "$name"; else row "$(words_of "$name") ; does not answer"; fi
        stop_all
    done
}

run_hits() {
    local round line
    ask -d "$work/hits" -n 1 -q 20 >/dev/null 2>&1 || true
    for ((round = 0; round < rounds; round++)); do
        measure -d "$work/hits" -q 100 -c 4 -l "$seconds"
        echo "$total_us $user_us $qps $lost"
    done >"$work/lines"
    line=$(median <"$work/lines")
    read -r total_us user_us qps lost <<<"$line"
    row "$(words_of "$1") ; $user_us ; $total_us ; $qps ; $lost"
}
mode_hits() {
    heading "Cached answers over UDP, as many as it takes" \
        "$hit_names names, 100 queries outstanding from 4 sockets, $seconds s, median of $rounds. CPU microseconds per answer."
    row "server ; user ; total ; answers/s ; lost"
    row "--- ; ---: ; ---: ; ---: ; ---:"
    each run_hits echo echo_batched detour "${others[@]}"
}

run_rate() {
    ask -d "$work/hits" -n 1 -q 20 >/dev/null 2>&1 || true
    measure -d "$work/hits" -q 1000 -c 4 -Q 20000 -l "$seconds" -v
    row "$(words_of "$1") ; $user_us ; $total_us ; $qps ; $(percentiles | sed 's/ / ; /g') ; $lost"
}
mode_rate() {
    heading "Cached answers over UDP, 20,000 a second" \
        "As above at a fixed rate, where most datagrams come alone and each wakes the server. Latency in microseconds as dnsperf sees it."
    row "server ; user ; total ; answers/s ; p50 ; p99 ; p99.9 ; lost"
    row "--- ; ---: ; ---: ; ---: ; ---: ; ---: ; ---: ; ---:"
    each run_rate echo detour "${others[@]}"
}

run_misses() {
    measure -d "$work/misses" -q 100 -c 4 -l "$seconds"
    row "${2:-$(words_of "$1")} ; $user_us ; $total_us ; $qps ; $(awk -v t="$total_us" 'BEGIN { printf "%.0f", (t > 0 ? 1e6 / t : 0) }') ; $lost"
}
misses_table() {
    row "server ; user ; total ; answers/s ; answers/s of one full core ; lost"
    row "--- ; ---: ; ---: ; ---: ; ---: ; ---:"
}
mode_misses() {
    heading "Answers that are not cached, over UDP" \
        "New names only, 100 outstanding, $seconds s; the far end answers at once and shares the core of dnsperf. What one full core would answer is 1 s by the CPU time of an answer."
    misses_table
    each run_misses detour "${others[@]}"
}

run_pool() { run_misses detour "pool of sockets (default)"; }
run_per_query() { run_misses detour 'a socket for each query (`per-query`)'; }
mode_ports() {
    heading "Source ports of queries to providers" "As above: what \`select.source-ports\` costs."
    misses_table
    each run_pool detour
    detour_select='source-ports = "per-query"'
    each run_per_query detour
    detour_select=
}

run_tcp() {
    ask -d "$work/hits" -n 1 -q 20 >/dev/null 2>&1 || true
    measure -m tcp -d "$work/hits" -q 100 -c 20 -l "$seconds"
    row "$(words_of "$1") ; $user_us ; $total_us ; $qps ; $lost"
}
mode_tcp() {
    heading "Cached answers over TCP" "20 connections that stay open, 100 queries outstanding, $seconds s."
    row "server ; user ; total ; answers/s ; lost"
    row "--- ; ---: ; ---: ; ---: ; ---:"
    each run_tcp detour "${others[@]}"
}

run_encrypted() {
    local round
    ask -d "$work/hits" -n 1 -q 20 >/dev/null 2>&1 || true
    for ((round = 0; round < rounds; round++)); do
        measure -d "$work/hits" -q 100 -c 20 -l "$seconds"
        echo "$total_us $user_us $qps $lost"
    done >"$work/lines"
    read -r total_us user_us qps lost < <(median <"$work/lines")
    row "$(words_of "$1") ; $user_us ; $total_us ; $qps ; $lost"
}
encrypted_table() {
    row "server ; user ; total ; answers/s ; lost"
    row "--- ; ---: ; ---: ; ---: ; ---:"
}
# Those of the others that are there, in this form.
others_over() {
    local name
    for name in dnsdist unbound; do
        if [[ -n ${!name} ]]; then echo "${name}_$1"; fi
    done
}
mode_dot() {
    heading "Cached answers over TLS" \
        "20 connections that stay open, 100 queries outstanding, $seconds s, median of $rounds. CPU microseconds per answer."
    encrypted_table
    carrier=(-m dot)
    each run_encrypted detour_dot $(others_over dot)
    carrier=()
}
run_doh() {
    local round before after
    taskset -c $load_core "$h2load" -i "$work/urls" -n $hit_names -c 1 -m 1 >/dev/null 2>&1 || true
    for ((round = 0; round < rounds; round++)); do
        before=$(cpu_of "$server")
        taskset -c $load_core "$h2load" -i "$work/urls" -c 20 -m 5 -t 1 -D "$seconds" >"$work/h2load" 2>/dev/null
        after=$(cpu_of "$server")
        awk -v b="$before" -v a="$after" -v hz="$ticks" -v t="$seconds" '
            /^requests:/ { lost = $10 + $12 + $14 }
            /^status codes:/ { good = $3; lost += $5 + $7 + $9 }
            END {
                split(b, x); split(a, y); n = good > 0 ? good : 1
                user = (y[1] - x[1]) * 1e6 / hz / n
                printf "%.2f %.2f %.0f %d\n", user + (y[2] - x[2]) * 1e6 / hz / n, user, good / t, lost
            }' "$work/h2load"
    done >"$work/lines"
    read -r total_us user_us qps lost < <(median <"$work/lines")
    row "$(words_of "$1") ; $user_us ; $total_us ; $qps ; $lost"
}
mode_doh() {
    if [[ -z $h2load ]]; then
        absent+=("DNS over HTTPS (no h2load)")
        return
    fi
    heading "Cached answers over HTTPS" "As above over HTTP/2, by GET; 5 queries outstanding on each connection, from h2load."
    encrypted_table
    carrier=(-m doh -O doh-uri=https://localhost/dns-query -O doh-method=GET)
    each run_doh detour_doh $(others_over doh)
    carrier=()
}

run_zipf() {
    measure -d "$work/zipf" -q 100 -c 4 -n 1
    row "$(words_of "$1") ; $user_us ; $total_us ; $qps ; $lost"
}
mode_zipf() {
    heading "Nine in ten for one name in ten" \
        "600,000 queries for 200,000 names, 90 % of them for 10 % of the names, beginning with an empty cache."
    row "server ; user ; total ; answers/s ; lost"
    row "--- ; ---: ; ---: ; ---: ; ---:"
    each run_zipf detour "${others[@]}"
}

run_memory() {
    local before after before_us
    before=$(resident_kib "$server")
    measure -d "$work/kept" -q 100 -c 4 -n 1
    after=$(resident_kib "$server")
    before_us=$total_us
    # The same again: what of it was kept is answered without the far end.
    kill "${pids[0]}" 2>/dev/null || true
    measure -d "$work/kept" -q 100 -c 4 -n 1 -t 1 -l 10
    row "$(words_of "$1") ; $(awk -v b="$before" -v a="$after" -v c="$completed" 'BEGIN {
        printf "%.1f ; %.1f ; %.0f", b / 1024, a / 1024, (a - b) * 1024 / 200000 }') ; $completed ; $before_us"
}
mode_memory() {
    heading "Memory" \
        "Resident memory before and after 200,000 new names of type A, and what that is per name; then how many of them are answered once the far end is gone (Detour may answer stale, nobody's TTL is over)."
    row "server ; MiB before ; MiB after ; bytes per name ; answered again ; CPU per new name"
    row "--- ; ---: ; ---: ; ---: ; ---: ; ---:"
    each run_memory detour "${others[@]}"
}

run_flood() {
    local before sizes= part
    before=$(resident_kib "$server")
    for part in 1 2 3 4; do
        fresh 300000 "f$part" >"$work/flood"
        measure -d "$work/flood" -q 100 -c 4 -n 1
        sizes+=" ; $(resident_kib "$server" | awk '{ printf "%.1f", $1 / 1024 }')"
    done
    row "$(words_of "$1") ; $(awk -v b="$before" 'BEGIN { printf "%.1f", b / 1024 }')$sizes ; $lost"
}
mode_flood() {
    heading "Memory under a flood of new names" \
        "Resident memory, MiB, before and after so many names that nobody asks twice; caches as in the other tables, Detour's the default of 32 MiB."
    row "server ; before ; 300,000 ; 600,000 ; 900,000 ; 1,200,000 ; lost"
    row "--- ; ---: ; ---: ; ---: ; ---: ; ---: ; ---:"
    each run_flood detour "${others[@]}"
}

run_overload() {
    local calm crowd capacity
    ask -d "$work/hits" -n 1 -q 20 >/dev/null 2>&1 || true
    measure -d "$work/misses" -q 100 -c 4 -l 3
    capacity=$qps
    measure -d "$work/hits" -q 1000 -c 1 -Q 1000 -l "$seconds" -v
    calm=$(percentiles)
    taskset -c $load_core "$dnsperf" -s 127.0.0.1 -p "$port" -d "$work/misses" -q 60000 -c 8 -b 4096 -t 1 \
        -Q $((capacity * 2)) -l $((seconds + 2)) >"$work/crowd" 2>/dev/null &
    crowd=$!
    rest 1
    measure -d "$work/hits" -q 1000 -c 1 -Q 1000 -l "$seconds" -v -t 1
    wait "$crowd" || true
    row "$(words_of "$1") ; $((capacity * 2)) ; $(awk '/Queries sent:/ { s = $3 } /Run time/ { t = $4 } END { printf "%.0f", s / t }' "$work/crowd") ; $(sed 's/ / ; /g' <<<"$calm") ; $(percentiles | sed 's/ / ; /g') ; $lost"
}
mode_overload() {
    heading "Cached answers while twice as many new names are asked as can be" \
        "1,000 cached answers a second, alone and beside new names at twice the rate the server managed before. Latency in microseconds; dnsperf shares its core with the other dnsperf and the far end, whose turns are in it."
    row "server ; new names/s wanted ; sent ; alone p50 ; p99 ; p99.9 ; beside p50 ; p99 ; p99.9 ; lost"
    row "--- ; ---: ; ---: ; ---: ; ---: ; ---: ; ---: ; ---: ; ---: ; ---:"
    each run_overload detour "${others[@]}"
}

# Seconds in which nothing is done; no process for it.
rest() { read -r -t "$1" <> <(:) || true; }

# The page's names, all at once; the milliseconds until the last is answered, and how many are.
load_page() {
    measure -d "$work/page-names" -n 1 -q $page_names -c 1 -t 5 -v
    echo "$(awk '/^> / { n++; if ($NF > max) max = $NF } END { printf "%.1f", max * 1000 }' "$work/dnsperf") ; $(awk '/^> NOERROR/ { n++ } END { print n + 0 }' "$work/dnsperf")"
}
run_outage() {
    local line
    measure -d "$work/page-names" -n 3 -q 20
    rest 2
    # It takes what comes, and says nothing.
    kill -STOP "${pids[0]}"
    line="$(load_page)"
    rest 6
    line+=" ; $(load_page)"
    rest 6
    line+=" ; $(load_page)"
    kill -CONT "${pids[0]}"
    row "$(words_of "$1") ; $line"
}
mode_outage() {
    heading "A page in a total outage" \
        "$page_names names that were known and have expired, asked together by one client when no provider answers any more: as it begins, 6 s and 12 s later. Milliseconds until the last answer, and how many of $page_names were answered; serving expired answers is switched on where it is not the default."
    row "server ; at once, ms ; answered ; 6 s later, ms ; answered ; 12 s later, ms ; answered"
    row "--- ; ---: ; ---: ; ---: ; ---: ; ---: ; ---:"
    each run_outage detour "${others[@]}"
}

now_us() { echo "${EPOCHREALTIME/./}"; }
# A question about the server itself, `version.bind CH TXT`.
own_question='AB\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07version\x04bind\x00\x00\x10\x00\x03'
# Starts the node once; microseconds until it says `ready`, and until it has answered.
start_once() {
    local line started fd byte ready=
    rm -rf "$work/state"
    prepare_detour
    started=$(now_us)
    coproc NODE { exec taskset -c $server_core "${command[@]}" 2>/dev/null; }
    local pid=$NODE_PID
    while read -r -t 5 line <&"${NODE[0]}"; do
        if [[ $line == ready ]]; then
            ready=$(($(now_us) - started))
            break
        fi
    done
    exec {fd}<>"/dev/udp/127.0.0.1/$port"
    # shellcheck disable=SC2059 # the question is a format, for its zeros
    printf "$own_question" >&"$fd"
    read -r -t 5 -N 1 -u "$fd" byte
    echo "${ready:?} $(($(now_us) - started))"
    exec {fd}>&-
    kill -TERM "$pid"
    wait "$pid" || true
}
run_start() {
    local count
    for ((count = 0; count < 20; count++)); do start_once; done >"$work/starts"
    row "$1 ; $(for column in 1 2; do cut -d' ' -f$column "$work/starts" | sort -n | awk '{ v[NR] = $1 } END {
        printf "%s%.1f ; %.1f", (NR && '$column' == 2 ? " ; " : ""), v[int((NR + 1) / 2)] / 1000, v[NR] / 1000 }'; done)"
}
mode_start() {
    heading "Start" \
        "20 starts on one core: milliseconds from the beginning of the process to its line \`ready\`, and to the answer to a question about itself that is asked then. Promised are 150."
    row "providers ; ready, median ; most ; answered, median ; most"
    row "--- ; ---: ; ---: ; ---: ; ---:"
    taskset -c $load_core "$responder" answer "127.0.0.1:$far_port" &
    pids+=($!)
    run_start "answer"
    kill -STOP "${pids[0]}"
    run_start "are silent"
    kill -CONT "${pids[0]}"
    stop_all
    run_start "are not there"
}

for mode in "${modes[@]}"; do "mode_$mode"; done

version_of() { "$@" 2>&1 | head -1 || true; }
{
    cat <<END
# Benchmarks

Written by \`scripts/bench.sh ${modes[*]}\`; run it again rather than believe it.
CPU time per answer is what compares; answers per second on a shared machine are not.

* Date: $(date -u +%Y-%m-%d)
* Machine: $(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo), $(nproc) cores, Linux $(uname -r)
* Detour: $(version_of "$detour" --version), $(git describe --always --dirty 2>/dev/null || echo unknown)
END
    if [[ -n $dnsdist ]]; then echo "* dnsdist: $(version_of "$dnsdist" --version)"; fi
    if [[ -n $unbound ]]; then echo "* unbound: $(version_of "$unbound" -V)"; fi
    if [[ -n $hickory ]]; then echo "* hickory-dns: $(version_of "$hickory" --version)"; fi
    echo "* Load: dnsperf $("$dnsperf" -h 2>&1 | awk '/^Version/ { print $2 }'); h2load; far end and echo: rig/examples/responder.rs"
    if ((${#absent[@]})); then
        printf '* Left out: '
        printf '%s\n' "${absent[@]}" | paste -sd, | sed 's/,/, /g'
    fi
    cat "$rows"
    # What was written by hand about earlier figures stays.
    if [[ -f $out ]]; then sed -n '/^## What the rest is made of/,$p' "$out" | sed '1i\\'; fi
} >"$work/page"
cp "$work/page" "$out"
echo "written: $out"
