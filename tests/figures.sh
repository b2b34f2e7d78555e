#!/usr/bin/env bash
# The figures of docs/acceptance.md, measured against `blockyard dev --processes`, release build.
#
#   tests/figures.sh [TREE]      TREE: what is put [default: the Rust toolchain's folder]
#
# Prints the median of ROUNDS (default 5) for: time to ready at a first start, one `ls` process, idle memory of all
# roles (PSS, 10 s after ready), and put and get of TREE with the CPU time of all processes. Compare only figures of
# one run: what else the machine does shows in all of them.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly rounds=${ROUNDS:-5}
readonly tree=${1:-$(rustc --print sysroot)}
cargo build --locked --release --quiet
readonly blockyard="${CARGO_TARGET_DIR:-target}/release/blockyard"
home=$(mktemp -d)
trap 'kill -KILL "${dev:-}" 2>/dev/null || true; rm -rf "$home"' EXIT

now_us() { local t=$EPOCHREALTIME; echo "${t/[.,]/}"; }
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
field() { sed -n "s/.*\"$1\":\"\\{0,1\\}\\([^\",}]*\\).*/\\1/p" <<<"$2" | head -n 1; }

# Starts a cluster in an empty folder; sets dev, ready (the line), pids and ready_ms.
start() {
  rm -rf "$home/data" "$home/events"
  mkfifo "$home/events"
  local from; from=$(now_us)
  "$blockyard" dev --processes --json --ports random --dir "$home/data" >"$home/events" 2>"$home/said" &
  dev=$!
  exec 7<"$home/events"
  IFS= read -r ready <&7
  ready_ms=$((($(now_us) - from) / 1000))
  pids=$(grep -o '"pid":[0-9]*' <<<"$ready" | cut -d: -f2)
  BLOCKYARD_FS=$(field fs "$ready")
  export BLOCKYARD_FS
}
stop() { kill -TERM "$dev"; wait "$dev"; exec 7<&-; }

# CPU time of the roles so far, in ticks of 10 ms.
role_ticks() { local pid sum=0; for pid in $pids; do sum=$((sum + $(awk '{ print $14 + $15 }' "/proc/$pid/stat"))); done; echo "$sum"; }
pss_kib() { local pid; for pid in $pids; do awk '/^Pss:/ { print $2 }' "/proc/$pid/smaps_rollup"; done | awk '{ s += $1 } END { print s }'; }

# Runs a command; prints wall ms and the CPU ms of the command and of the roles.
timed() {
  local before from took cpu
  before=$(role_ticks) from=$(now_us)
  cpu=$( { TIMEFORMAT='%U %S'; time "$@" >"$home/out" 2>"$home/err"; } 2>&1 )
  took=$((($(now_us) - from) / 1000))
  awk -v cpu="$cpu" -v ticks="$(($(role_ticks) - before))" -v took="$took" \
    'BEGIN { split(cpu, c, " "); printf "%d %d\n", took, (c[1] + c[2]) * 1000 + ticks * 10 }'
}

files=$(find "$tree" -type f | wc -l)
bytes=$(find "$tree" -type f -printf '%s\n' | awk '{ s += $1 } END { print s }')
echo "tree: $files files, $bytes bytes; $(nproc) cores, kernel $(uname -r), $rounds rounds"

: >"$home/ready" >"$home/ls" >"$home/pss" >"$home/put" >"$home/get"
for _ in $(seq "$rounds"); do
  start
  echo "$ready_ms" >>"$home/ready"
  sleep 10
  pss_kib >>"$home/pss"
  for _ in $(seq 20); do
    from=$(now_us)
    "$blockyard" ls / >/dev/null
    echo $(($(now_us) - from)) >>"$home/ls"
  done
  timed "$blockyard" put -r "$tree" /tree >>"$home/put"
  timed "$blockyard" get -r /tree "$home/back" >>"$home/get"
  rm -rf "$home/back"
  stop
done

echo "ready, first start          $(median <"$home/ready") ms"
awk -v us="$(median <"$home/ls")" 'BEGIN { printf "one ls process              %.1f ms\n", us / 1000 }'
echo "idle memory of all roles    $(($(median <"$home/pss") / 1024)) MiB PSS"
for what in put get; do
  wall=$(cut -d' ' -f1 "$home/$what" | median) cpu=$(cut -d' ' -f2 "$home/$what" | median)
  awk -v w="$wall" -v c="$cpu" -v f="$files" -v b="$bytes" -v what="$what" 'BEGIN {
    printf "%s of the tree             %.1f s: %d files/s, %.1f MB/s, %.2f CPU s/GiB, %.2f ms CPU a file\n",
      what, w / 1000, f / w * 1000, b / w / 1000, c / 1000 / (b / 1073741824), c / f }'
done
