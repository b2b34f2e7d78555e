#!/usr/bin/env bash
# The figures of a mount in docs/acceptance.md, beside those of a local disk, release build. As root, with /dev/fuse.
#
#   tests/mount-figures.sh [LOCAL]     LOCAL: a folder of the disk beside [default: the system's for temporary files]
#
# Prints the medians of ROUNDS (default 5) of `blockyard bench directory`, and of `git status` in a tree of 10,000 files
# that was just looked at. Compare only figures of one run: what else the machine does shows in all of them.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly rounds=${ROUNDS:-5}
cargo build --locked --release --quiet
readonly blockyard="${CARGO_TARGET_DIR:-target}/release/blockyard"
home=$(mktemp -d -p "${1:-${TMPDIR:-/tmp}}")
trap '"$blockyard" umount --lazy "$home/mnt" 2>/dev/null || true; kill -TERM "${dev:-}" 2>/dev/null || true; wait; rm -rf "$home"' EXIT
mkdir "$home/mnt" "$home/local" "$home/cache"

"$blockyard" dev --processes --json --ports random --dir "$home/data" >"$home/events" 2>"$home/said" &
dev=$!
until grep -q '"type":"ready"' "$home/events"; do sleep 0.1; done
BLOCKYARD_FS=$(sed -n 's/.*"fs":"\([^"]*\)".*/\1/p' "$home/events" | head -n 1)
export BLOCKYARD_FS
"$blockyard" mount --cache-dir "$home/cache" "$home/mnt"

"$blockyard" bench directory --rounds "$rounds" "$home/mnt" "$home/local"

now_us() { local t=$EPOCHREALTIME; echo "${t/[.,]/}"; }
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

# A repository of 10,000 files, and how long `git status` takes in it when it is warm, in ms.
git_status() { # DIR
  local dir=$1 folder file from
  git init -q "$dir"
  for folder in $(seq 100); do
    mkdir "$dir/d$folder"
    for file in $(seq 100); do echo "$folder $file" >"$dir/d$folder/f$file"; done
  done
  git -C "$dir" add .
  git -C "$dir" -c user.name=n -c user.email=e@e commit -qm all
  for _ in 1 2; do git -C "$dir" status --porcelain; done
  for _ in $(seq "$rounds"); do
    from=$(now_us)
    git -C "$dir" status --porcelain
    echo $((($(now_us) - from) / 1000))
  done | median
}
echo "git status of 10,000 files, ms: mount $(git_status "$home/mnt/git"), local $(git_status "$home/local/git")"
