#!/usr/bin/env bash
# h2load on the gRPC health check: tests/external/h2load.sh [SECONDS]. Fails when one request failed, or none was done.
source "$(dirname "$0")/../../scripts/lib.sh"

seconds="${1:-60}"
work="$(mktemp -d)"
trap 'stop_gateway; rm -rf "$work"' EXIT
printf '\0\0\0\0\0' >"$work/empty-message" # a gRPC frame with an empty HealthCheckRequest

port="$(free_port)"
start_gateway "$port" "$(free_port)" --cores 0
h2load --duration "$seconds" --clients 16 --max-concurrent-streams 10 --threads 1 --data "$work/empty-message" \
  --header 'content-type: application/grpc' --header 'te: trailers' \
  "http://127.0.0.1:$port/grpc.health.v1.Health/Check" | tee "$work/report"

# requests: 100 total, 100 started, 100 done, 100 succeeded, 0 failed, 0 errored, 0 timeout
line="$(grep '^requests:' "$work/report")"
[[ "$line" =~ \ 0\ failed,\ 0\ errored,\ 0\ timeout ]] || die "some requests failed: $line"
[[ "$line" =~ \ ([0-9]+)\ succeeded ]] && [ "${BASH_REMATCH[1]}" -gt 1000 ] || die "too few requests were answered: $line"
grep -q '^status codes: [1-9][0-9]* 2xx, 0 3xx, 0 4xx, 0 5xx' "$work/report" || die "not every status was 200"
kill -0 "$GATEWAY_PID" || die "the gateway did not survive"
echo "h2load: ${BASH_REMATCH[1]:-} requests in $seconds s, none failed"
