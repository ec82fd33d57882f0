#!/usr/bin/env bash
# The whole way through a running service, on 40 images that it draws: docker/check.sh URL [with SIMCLR_API_KEY=...].
# It takes curl and python3. It leaves a data set, a model and a collection `check`, and promotes the model if none is.
set -euo pipefail
url=${1:?usage: docker/check.sh URL}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

call() { curl --silent --show-error --fail-with-body ${SIMCLR_API_KEY:+--header "Authorization: Bearer $SIMCLR_API_KEY"} "$@"; }
field() { python3 -c 'import functools, json, sys; print(functools.reduce(lambda v, k: v[int(k) if k.isdigit() else k], sys.argv[1].split("."), json.load(sys.stdin)))' "$1"; }
post() { call --header "Content-Type: application/json" --data "$2" "$url/v1/$1"; }

until_it_is() { # PATH WANTED: waits until the thing at PATH has that status
    local status
    while status=$(call "$url$1" | field status); do
        [ "$status" = "$2" ] && return
        case $status in failed | cancelled) echo "$1: $status" >&2 && call "$url$1" >&2 && exit 1 ;; esac
        sleep 1
    done
}

python3 - "$folder" <<'PYTHON'
import io, os, struct, sys, tarfile, zlib

def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

def png():  # noise, 16 pixels a side
    rows = b"".join(b"\0" + os.urandom(48) for _ in range(16))
    header = struct.pack(">IIBBBBB", 16, 16, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")

with tarfile.open(f"{sys.argv[1]}/images.tar", "w") as archive:
    for i in range(40):
        content = png()
        member = tarfile.TarInfo(f"{'even' if i % 2 == 0 else 'odd'}/{i}.png")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
        open(f"{sys.argv[1]}/{i}.png", "wb").write(content)
PYTHON

call "$url/readyz" | field status

dataset=$(call --form name=check --form "file=@$folder/images.tar" "$url/v1/datasets" | field id)
until_it_is "/v1/datasets/$dataset" ready
echo "uploaded: $dataset"

recipe='{"preset": "cpu-small", "batch_size": 20, "schedule": {"epochs": 3, "warmup_epochs": 0}, "preprocessing": {"image_size": 16}}'
job=$(post jobs "{\"kind\": \"pretrain\", \"dataset_id\": \"$dataset\", \"recipe\": $recipe}" | field id)
call --no-buffer --header "Accept: text/event-stream" "$url/v1/jobs/$job/events" > "$folder/events" &
until grep -q '^data:' "$folder/events"; do sleep 0.1; done
case $(call "$url/v1/jobs/$job" | field status) in
    queued | running) echo "events come while it trains: $job" ;;
    *) echo "the first event came when the job had ended: something between holds events back" >&2 && exit 1 ;;
esac
until_it_is "/v1/jobs/$job" succeeded
wait # the stream ends with the job
grep -q '"succeeded"' "$folder/events"

model=$(call "$url/v1/jobs/$job" | field result.model_id)
if ! call "$url/v1/aliases?limit=200" | grep -q '"production"'; then
    call --request PUT --header "Content-Type: application/json" --data "{\"model_id\": \"$model\"}" \
        "$url/v1/aliases/production" > "$folder/alias"
    echo "promoted: $model"
else
    echo "trained: $model; another model is in production, and stays there"
fi

call --form "files=@$folder/0.png" "$url/v1/embeddings" | field model
call --form collection=check --form "files=@$folder/0.png" --form "files=@$folder/1.png" "$url/v1/images" > "$folder/stored"
score=$(call --form "file=@$folder/1.png" --form collection=check --form k=1 "$url/v1/search" | field items.0.score)
python3 -c 'import sys; sys.exit(float(sys.argv[1]) < 0.999)' "$score"
echo "an image found itself, with score $score"
