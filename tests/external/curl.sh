#!/usr/bin/env bash
# curl --http2-prior-knowledge on the data port, and plain curl on the HTTP endpoint.
source "$(dirname "$0")/../../scripts/lib.sh"

work="$(mktemp -d)"
trap 'stop_gateway; rm -rf "$work"' EXIT
port="$(free_port)"
http_port="$(free_port)"
start_gateway "$port" "$http_port" --cores 0
url="http://127.0.0.1:$port"
checks=0

# fetch ARGUMENT...   one request by HTTP/2; header fields and trailers land in $work/headers, the body in $work/body.
fetch() {
  : >"$work/body"
  curl --silent --show-error --http2-prior-knowledge --max-time 10 \
    --dump-header "$work/headers" --output "$work/body" "$@"
}

# has NAME: VALUE   the last response had this field, in its header section or its trailers.
has() {
  grep -qiE "^$1"$'\r?$' "$work/headers" || die "'$1' is missing in: $(cat "$work/headers")"
  checks=$((checks + 1))
}

# answered STATUS   the last response had this HTTP status.
answered() {
  grep -q "^HTTP/2 $1" "$work/headers" || die "HTTP status $1 expected: $(cat "$work/headers")"
  checks=$((checks + 1))
}

printf '\0\0\0\0\0' >"$work/empty-message"
grpc=(--header 'te: trailers' --data-binary "@$work/empty-message")

fetch "${grpc[@]}" --header 'content-type: application/grpc' "$url/grpc.health.v1.Health/Check"
answered 200
has 'content-type: application/grpc.*'
has 'grpc-status: 0'
[ "$(od -An -tx1 "$work/body" | tr -d ' \n')" = 00000000020801 ] || die "SERVING expected: $(od -c "$work/body")"

fetch "${grpc[@]}" --header 'content-type: application/grpc' "$url/grpc.health.v1.Health/Nope"
answered 200
has 'grpc-status: 12'

fetch "${grpc[@]}" --header 'content-type: text/plain' "$url/grpc.health.v1.Health/Check"
answered 415
[ -s "$work/body" ] || die "415 has no body"

fetch --header 'content-type: application/grpc' "$url/grpc.health.v1.Health/Check" # GET
answered 405

# Two requests on one connection, at once: Debian's curl 7.88.1 fails to reuse an HTTP/2 connection one after the other, whatever
# the server ("Error in the HTTP2 framing layer", from Node's too).
fetch --parallel "${grpc[@]}" --header 'content-type: application/grpc' \
  "$url/grpc.health.v1.Health/Check" "$url/grpc.health.v1.Health/Check"
[ "$(grep -ci '^grpc-status: 0' "$work/headers")" = 2 ] || die "two answers expected: $(cat "$work/headers")"

# HTTP/1.1 on the data port is refused, and harms nobody.
if curl --silent --http1.1 --max-time 10 --output /dev/null "$url/"; then die "HTTP/1.1 was served on the data port"; fi

for path in /healthz /readyz /metrics /stats; do
  curl --silent --fail --max-time 10 --output /dev/null "http://127.0.0.1:$http_port$path" || die "$path is not served"
  checks=$((checks + 1))
done
echo "curl: $checks checks passed"
