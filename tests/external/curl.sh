#!/usr/bin/env bash
# curl --http2-prior-knowledge and nghttp2's clients on the data port, and plain curl on the HTTP endpoint.
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
# Refused calls have no body: Debian's curl 7.88.1 loses an answer that ends its stream before the body is sent (error 92, now and
# then, also from grpcio's server), which RFC 9113 section 8.1 forbids.
no_body=(--header 'te: trailers' --data '')

fetch "${grpc[@]}" --header 'content-type: application/grpc' "$url/grpc.health.v1.Health/Check"
answered 200
has 'content-type: application/grpc.*'
has 'grpc-status: 0'
[ "$(od -An -tx1 "$work/body" | tr -d ' \n')" = 00000000020801 ] || die "SERVING expected: $(od -c "$work/body")"

fetch "${no_body[@]}" --header 'content-type: application/grpc' "$url/grpc.health.v1.Health/Nope"
answered 200
has 'grpc-status: 12'

fetch "${no_body[@]}" --header 'content-type: text/plain' "$url/grpc.health.v1.Health/Check"
answered 415
[ -s "$work/body" ] || die "415 has no body"

fetch --header 'content-type: application/grpc' "$url/grpc.health.v1.Health/Check" # GET
answered 405

# Two requests on one connection, at once and one after the other: with nghttp2's own clients, because Debian's curl 7.88.1
# never sends the second one, whatever the server: it closes the connection with error 16.
call=(--data="$work/empty-message" --header='te: trailers' --header='content-type: application/grpc')
nghttp --verbose --multiply=2 --header=':method: POST' "${call[@]}" "$url/grpc.health.v1.Health/Check" >"$work/frames"
[ "$(grep -c 'grpc-status: 0$' "$work/frames")" = 2 ] || die "two answers at once expected: $(cat "$work/frames")"
h2load --requests=2 --clients=1 --max-concurrent-streams=1 "${call[@]}" "$url/grpc.health.v1.Health/Check" >"$work/report"
grep -q '^status codes: 2 2xx' "$work/report" || die "two answers in turn expected: $(cat "$work/report")"
checks=$((checks + 2))

# HTTP/1.1 on the data port is refused, and harms nobody.
if curl --silent --http1.1 --max-time 10 --output /dev/null "$url/"; then die "HTTP/1.1 was served on the data port"; fi

for path in /healthz /readyz /metrics /stats; do
  curl --silent --fail --max-time 10 --output /dev/null "http://127.0.0.1:$http_port$path" || die "$path is not served"
  checks=$((checks + 1))
done
echo "curl: $checks checks passed"
