#!/usr/bin/env bash
# The image as a person uses it: built, started, killed, started again on its volume, stopped. One line per check; exit 1 where one
# failed. Says 'skipped: no docker' where no engine answers (../shared/tools/docker-up brings one up).
#
#   scripts/try-docker.sh            builds the image, about two minutes the first time
#   IMAGE=name scripts/try-docker.sh takes one that is there
#
# Leaves the image, and nothing else: containers and volumes carry the id of this run, and go when it ends.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

docker info >/dev/null 2>&1 || { echo 'skipped: no docker'; exit 0; }

run=spillway-try-$$
work=$(mktemp -d)
failed=0
checks=0
ok() { checks=$((checks + 1)); printf 'ok      %s\n' "$*"; }
not_ok() { checks=$((checks + 1)); failed=$((failed + 1)); printf 'FAILED  %s\n' "$*"; }
# check NAME CONDITION…: the condition is a command.
check() {
  local name=$1
  shift
  if "$@"; then ok "$name"; else not_ok "$name" && return 1; fi
}
has() { grep -qaF -- "$2" "$1"; }

cleanup() {
  local names
  mapfile -t names < <(docker ps -aq --filter "label=$run")
  ((${#names[@]})) && docker rm -f "${names[@]}" >/dev/null 2>&1
  docker volume rm -f "$run" >/dev/null 2>&1
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

image=${IMAGE:-spillway}
if [ -z "${IMAGE:-}" ]; then
  from=$SECONDS
  if timeout 580 docker build --network=host -t "$image" . >"$work/build" 2>&1; then
    ok "docker build: $((SECONDS - from)) s, $(($(docker image inspect -f '{{.Size}}' "$image") / 1000000)) MB with its base"
  else
    tail -n 20 "$work/build"
    not_ok 'docker build'
    exit 1
  fi
fi

# Reached from outside through a published port; an engine without a bridge network has only the host's.
mapfile -t ports < <(docker run --rm --label "$run" --network=none --entrypoint node "$image" -e '
  const s = [0, 0].map(() => require("net").createServer().listen(0, "127.0.0.1"));
  setTimeout(() => { for (const x of s) console.log(x.address().port); process.exit() }, 100)')
http=${ports[0]} tcp=${ports[1]}
if docker network inspect bridge >/dev/null 2>&1; then
  network=(-p "127.0.0.1:$http:8080" -p "127.0.0.1:$tcp:8081")
  how='published ports'
else
  network=(--network=host -e "SPILLWAY_HTTP=0.0.0.0:$http" -e "SPILLWAY_TCP=0.0.0.0:$tcp")
  how='the network of the host: this engine has no bridge'
fi
url=http://127.0.0.1:$http
records=$url/v1/streams/orders/records

# What a user would type, but for the names. gateway NAME HOSTNAME: on the volume of this run.
hardened=(--read-only --cap-drop=ALL --security-opt no-new-privileges)
gateway() {
  docker run -d --label "$run" --name "$run-$1" --hostname "$2" --memory=256m "${hardened[@]}" "${network[@]}" \
    -v "$run:/data" -v "$work/etc:/etc/spillway:ro" "$image" >/dev/null
}
command_line() { docker run --rm --label "$run" --network=none "$@"; }
answers() {
  for _ in $(seq 150); do
    curl -fsS -o /dev/null "$url/readyz" 2>/dev/null && return 0
    sleep 0.2
  done
  docker logs "$run-$1" 2>&1 | tail -n 5
  return 1
}
exit_of() { docker inspect -f '{{.State.ExitCode}}' "$run-$1"; }
post() { curl -sS -H "authorization: Bearer $token" -H 'content-type: application/x-ndjson' "$@"; }
read_back() { post "$records?from=0&max=10000"; }

check 'the process is not root' test "$(command_line --entrypoint id "$image" -u)" = 1000

command_line "$image" >"$work/out" 2>&1
check "without a file of tokens: refused with exit 2, not served to everybody" test $? = 2
check "  and the line names the option: $(grep -a INVALID_OPTION "$work/out" | cut -c1-90)…" has "$work/out" "/etc/spillway/tokens: option 'tokens'"

mkdir "$work/etc"
command_line "$image" token --name first --json >"$work/token" || not_ok 'spillway token'
token=$(sed -E 's/.*"token":"([^"]+)".*/\1/' "$work/token")
sed -E 's/.*"line":"([^"]+)".*/\1/' "$work/token" >"$work/etc/tokens"
chmod 755 "$work/etc"

timeout 60 docker run --rm --label "$run" --network=none --memory=192m -v "$work/etc:/etc/spillway:ro" "$image" >"$work/out" 2>&1
check 'with --memory=192m: refused with exit 2' test $? = 2
check "  and the line says why: $(grep -a 'MEMORY_LIMIT' "$work/out" | cut -c1-110)…" has "$work/out" 'above the limit of 192 MiB'

# What a bound is for: the same load, kept in an array and dropped by a policy (docs/labs.md). As a person types it, but for the name.
lab() {
  timeout 100 docker run --label "$run" --name "$run-lab-$1" --network=none --memory=256m "$image" \
    lab overflow --policy "$1" >"$work/lab-$1" 2>&1
}
oom_killed() { docker inspect -f '{{.State.OOMKilled}}' "$run-lab-$1"; }
lab unbounded
status=$?
check "lab overflow --policy unbounded, with --memory=256m: exit $status" test $status = 137
check "  OOMKilled: $(oom_killed unbounded)" test "$(oom_killed unbounded)" = true
check "  and it says so: $(grep -ao 'exit 137: .*' "$work/lab-unbounded" | cut -c1-90)" grep -qaE 'oom_kill [1-9]' "$work/lab-unbounded"
lab drop-newest
status=$?
check "lab overflow --policy drop-newest, the same: exit $status" test $status = 0
check "  OOMKilled: $(oom_killed drop-newest)" test "$(oom_killed drop-newest)" = false
check "  $(grep -a '^offered' "$work/lab-drop-newest" | cut -d';' -f1): the ledger is exact" has "$work/lab-drop-newest" 'the ledger is exact'

gateway one first-host
check "with --memory=256m, read-only, without capabilities: answers ($how)" answers one || exit 1
docker logs "$run-one" >"$work/log" 2>&1
check "the addon is used: $(grep -ao 'I/O mode [a-z]*' "$work/log")" grep -qaE 'I/O mode (direct|buffered|portable)' "$work/log"
check 'a second container on the same volume is refused: LOCKED' \
  grep -qa 'LOCKED' <(timeout 60 docker run --rm --label "$run" --network=none --hostname second-host -v "$run:/data" \
    -v "$work/etc:/etc/spillway:ro" "$image" 2>&1)

status=$(curl -sS -o /dev/null -w '%{http_code}' -H 'content-type: text/plain' --data-binary x "$records")
check 'a record without a token: 401' test "$status" = 401
printf '{"id":1,"name":"Zo\xc3\xab"}\n{"id":2}\n' >"$work/sent"
post --data-binary "@$work/sent" "$records" >"$work/answer"
check "records by curl from outside: $(cat "$work/answer")" \
  test "$(cat "$work/answer")" = '{"accepted":2,"firstOffset":0,"lastOffset":1,"durable":true}'

docker kill -s KILL "$run-one" >/dev/null
check 'docker kill -s KILL: exit 137' test "$(exit_of one)" = 137
docker start "$run-one" >/dev/null
check '  started again: answers' answers one || exit 1
check '  the records are still there' test "$(read_back | grep -ac '"payload"')" = 2
docker kill -s KILL "$run-one" >/dev/null
docker rm "$run-one" >/dev/null

gateway two another-host
check 'a new container of another hostname on the volume of a killed one: answers' answers two || exit 1
check '  the records are still there' test "$(read_back | grep -ac '"payload"')" = 2

# A new file over the old one, as a person with an editor does; the folder is mounted, so the container sees it.
command_line "$image" token --name second --json >"$work/token2"
sed -E 's/.*"line":"([^"]+)".*/\1/' "$work/token2" | cat "$work/etc/tokens" - >"$work/etc/tokens.new"
mv "$work/etc/tokens.new" "$work/etc/tokens"
docker kill -s HUP "$run-two" >/dev/null
second=$(sed -E 's/.*"token":"([^"]+)".*/\1/' "$work/token2")
for _ in $(seq 50); do
  status=$(curl -sS -o /dev/null -w '%{http_code}' -H "authorization: Bearer $second" "$url/v1/stats")
  [ "$status" = 200 ] && break
  sleep 0.1
done
check 'docker kill -s HUP: the new token is known' test "$status" = 200

for _ in $(seq 60); do
  health=$(docker inspect -f '{{.State.Health.Status}}' "$run-two")
  [ "$health" = healthy ] && break
  sleep 0.5
done
check "the health check says: $health" test "$health" = healthy
anonymous=$(docker exec "$run-two" sed -nE 's/^RssAnon:[^0-9]*([0-9]+) kB/\1/p' /proc/1/status)
ok "anonymous memory of the idle gateway: $((anonymous / 1024)) MiB"

# Stopped under load: four clients, a record per request, and one request that is half sent when the signal comes.
: >"$work/acked"
for client in 1 2 3 4; do
  (
    for n in $(seq 5000); do
      status=$(post -o /dev/null -w '%{http_code}' --max-time 20 --data-binary "$client-$n" "$records" 2>/dev/null)
      [ "$status" = 200 ] || break
      echo "$client-$n" >>"$work/acked"
    done
  ) &
done
mkfifo "$work/rest"
{ printf 'slow-'; cat "$work/rest"; } |
  post -X POST -H 'transfer-encoding: chunked' --max-time 30 -T - "$records" >"$work/slow" &
exec 3<>"$work/rest" # keeps the pipe open, so that opening it never waits
for _ in $(seq 100); do [ "$(wc -l <"$work/acked")" -ge 20 ] && break; sleep 0.1; done
from=$SECONDS
docker stop "$run-two" >/dev/null 3>&- & # without the pipe: its end would not be seen
for _ in $(seq 100); do docker logs "$run-two" 2>&1 | grep -qa draining && break; sleep 0.1; done
printf 'request' >&3
exec 3>&-
wait
took=$((SECONDS - from))
check "docker stop under load: exit $(exit_of two), after $took s" test "$(exit_of two)" = 0
check "  the request whose second half came after the signal is answered: $(cat "$work/slow")" has "$work/slow" '"accepted":1'
docker logs "$run-two" >"$work/log" 2>&1
check '  the log says that nothing is left' has "$work/log" 'everything that was accepted is answered'

command_line --hostname reader -v "$run:/data" "$image" read --dir /data --stream orders >"$work/read"
missing=$(grep -acvxFf "$work/read" "$work/acked")
check "  each of $(wc -l <"$work/acked") records answered 200 is in the log: $missing missing" test "$missing" = 0 -a -s "$work/acked"
check '  and the late one' has "$work/read" slow-request
check '  and those of before, byte for byte' cmp -s "$work/sent" <(head -n 2 "$work/read")
check '  spillway verify: no damage' command_line -v "$run:/data" --entrypoint sh "$image" -c 'node dist/src/cli/main.js verify --dir /data >/dev/null'

printf '%s of %s checks held\n' "$((checks - failed))" "$checks"
[ "$failed" = 0 ]
