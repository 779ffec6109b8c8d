#!/usr/bin/env bash
# Clients that nobody here wrote send through the gateway, and every record they sent is found by reading the log back, byte for
# byte. One line per way of sending, with what it needed; 'skipped' where a client is not there; exit 1 where a check failed.
#
#   scripts/try-clients.sh            what is there: curl, autocannon, Python, …
#   scripts/try-clients.sh --install  first gets the others: requests and httpx (venv), pino-http-send (npm) into $CLIENTS_DIR,
#                                     syslog-ng (apt, as root)
#
# Needs a build (npm run build). The gateway asks for a token, so that each client also shows how it sends one.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

clients=${CLIENTS_DIR:-${TMPDIR:-/tmp}/spillway-clients}
if [ "${1:-}" = --install ]; then
  mkdir -p "$clients/npm"
  { python3 -m venv "$clients/venv" && "$clients/venv/bin/pip" install -q requests httpx; } || echo 'not installed: requests, httpx'
  npm install --silent --no-audit --no-fund --prefix "$clients/npm" pino-http-send || echo 'not installed: pino-http-send'
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    syslog-ng-core syslog-ng-mod-http zstd; } >/dev/null 2>&1 || echo 'not installed: syslog-ng, zstd'
fi

work=$(mktemp -d)
spillway() { node dist/src/cli/main.js "$@"; }
pids=()
cleanup() {
  local pid
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null; done
  wait 2>/dev/null
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

checks=0
failed=0
ok() { checks=$((checks + 1)); printf 'ok      %s\n' "$*"; }
not_ok() { checks=$((checks + 1)); failed=$((failed + 1)); printf 'FAILED  %s\n' "$*"; }
skip() { printf 'skipped %s\n' "$*"; }

# --- the gateway

dir=$work/log
spillway token --name clients --json >"$work/token.json"
token=$(sed -E 's/.*"token":"([^"]+)".*/\1/' "$work/token.json")
sed -E 's/.*"line":"([^"]+)".*/\1/' "$work/token.json" >"$work/tokens"
address=127.0.0.1:0
start_gateway() {
  node dist/src/cli/main.js serve --dir "$dir" --http "$address" --tcp off --tokens "$work/tokens" \
    >"$work/gateway.out" 2>>"$work/gateway.err" &
  gateway=$!
  pids+=("$gateway")
  for _ in $(seq 200); do
    address=$(sed -nE 's|.*listening on http://([^, ]+).*|\1|p' "$work/gateway.out")
    [ -n "$address" ] && return
    sleep 0.05
  done
  tail -n 3 "$work/gateway.err"
  echo 'the gateway did not start'
  exit 1
}
start_gateway
url() { printf 'http://%s/v1/streams/%s/records' "$address" "$1"; }
bearer="authorization: Bearer $token"

# found STREAM FILE LABEL [any-order]: the payloads of the stream are the lines of the file.
found() {
  spillway read --dir "$dir" --stream "$1" >"$work/read"
  if [ "${4:-}" = any-order ]; then
    LC_ALL=C sort -o "$work/read" "$work/read"
    LC_ALL=C sort -o "$2" "$2"
  fi
  if [ -s "$2" ] && cmp -s "$work/read" "$2"; then
    ok "$3 ($(wc -l <"$2") records)"
  else
    not_ok "$3: $(wc -l <"$work/read") records read, $(wc -l <"$2") sent; $(cmp "$work/read" "$2" 2>&1 | head -n 1)"
    tail -n 3 "$work/out" 2>/dev/null
  fi
}

# --- curl. Lines of every kind; above 1 MiB, so that it asks with Expect: 100-continue before it sends.

ndjson=(-H 'content-type: application/x-ndjson')
spillway sample --records 9000 >"$work/plain"
{ cat "$work/plain"; printf '{"name":"Zo\xc3\xab", "n":12345678901234567890, "x" : 1.0}\n\xff\xfe not JSON, not UTF-8\n'; } >"$work/sent"
# Lines that end in CR LF, a blank one, no last newline: none of these is part of a record.
{ cat "$work/sent"; printf '{"crlf":1}\r\n\n \t\r\n{"last":1}'; } >"$work/odd"
{ cat "$work/sent"; printf '{"crlf":1}\n{"last":1}\n'; } >"$work/expected"
if command -v curl >/dev/null; then
  send() { curl -sS -f -v -o /dev/null -H "$bearer" "$@" 2>"$work/out"; }
  version=$(curl --version | sed -nE '1s/curl ([0-9.]+).*/\1/p')
  send "${ndjson[@]}" --data-binary "@$work/odd" "$(url curl-file)"
  grep -qai '^> expect: 100-continue' "$work/out" && asked='asked with Expect: 100-continue' || asked='without Expect'
  found curl-file "$work/expected" "curl $version --data-binary @file: -H content-type; $asked"
  gzip -c "$work/odd" | send "${ndjson[@]}" -H 'content-encoding: gzip' --data-binary @- "$(url curl-gzip)"
  found curl-gzip "$work/expected" 'gzip -c file | curl --data-binary @-: -H content-type, -H content-encoding'
  if ! command -v zstd >/dev/null; then
    skip 'zstd -c file | curl: there is no zstd'
  else
    zstd -qc "$work/odd" | curl -sS -H "$bearer" "${ndjson[@]}" -H 'content-encoding: zstd' --data-binary @- "$(url curl-zstd)" >"$work/out"
    if node -e 'process.exit(require("zlib").zstdDecompressSync ? 0 : 1)'; then
      found curl-zstd "$work/expected" 'zstd -c file | curl --data-binary @-: the same with zstd'
    elif grep -qa 'zstd needs Node 22.15' "$work/out"; then
      ok "zstd -c file | curl: refused as this Node has no zstd, and says so"
    else
      not_ok "zstd -c file | curl: $(cat "$work/out")"
    fi
  fi
  send "${ndjson[@]}" -X POST -H 'transfer-encoding: chunked' -T - "$(url curl-chunked)" <"$work/odd"
  found curl-chunked "$work/expected" 'curl -T - (chunked, of unknown length): -X POST, -H content-type'
  send -0 "${ndjson[@]}" --data-binary "@$work/odd" "$(url curl-http10)"
  found curl-http10 "$work/expected" 'curl --http1.0: -H content-type'
  printf '{"a" : [1, 2.50]}\n' >"$work/one"
  send --json ' {"a" : [1, 2.50]} ' "$(url curl-json)"
  found curl-json "$work/one" 'curl --json: nothing'
  send --http2 --json '{"a" : [1, 2.50]}' "$(url curl-http2)"
  found curl-http2 "$work/one" 'curl --http2 (an upgrade, which is not taken): nothing'
  status=$(curl -sS -o "$work/out" -w '%{http_code}' -H "$bearer" -d '{"a":1}' "$(url curl-form)")
  if [ "$status" = 415 ] && grep -qa 'curl sends it' "$work/out"; then
    ok 'curl -d without -H content-type: refused with 415, and the answer says what to add'
  else
    not_ok "curl -d without -H content-type: $status $(cat "$work/out")"
  fi
else
  skip 'curl: it is not there'
fi

# --- autocannon: 64 connections, each record with an id of its own

if [ -x node_modules/.bin/autocannon ]; then
  timeout 120 node_modules/.bin/autocannon -j -c 64 -a 5000 -m POST -H "$bearer" -H 'content-type: application/json' -I \
    -b '{"id":"[<id>]","of":"autocannon"}' "$(url autocannon)" >"$work/out" 2>"$work/autocannon.err"
  answered=$(node -p 'JSON.parse(require("fs").readFileSync(process.argv[1]))["2xx"]' "$work/out")
  spillway read --dir "$dir" --stream autocannon | LC_ALL=C sort -u >"$work/read"
  shaped=$(grep -cxE '\{"id":"[^"]+","of":"autocannon"\}' "$work/read")
  if [ "$answered" = 5000 ] && [ "$(wc -l <"$work/read")" = 5000 ] && [ "$shaped" = 5000 ]; then
    ok "autocannon -c 64: -H content-type; 5000 answered 200, as many different records in the log"
  else
    not_ok "autocannon -c 64: $answered answered 200, $(wc -l <"$work/read") different records, $shaped of their shape"
  fi
else
  skip 'autocannon: npm ci was not run'
fi

# --- Python: urllib, requests, httpx

cat >"$work/client.py" <<'PY'
import gzip, io, json, sys

client, base, token, plain, expected = sys.argv[1:]
lines = open(plain, 'rb').read()
records = [{'name': 'Zoë', 'n': i, 'x': 1.0} for i in range(100)]
auth = {'Authorization': 'Bearer ' + token}
ndjson = {**auth, 'Content-Type': 'application/x-ndjson'}
out = open(expected, 'wb')

def url(name):
    return '%s/%s-%s/records' % (base, client, name)

def check(status, answer, n):
    assert status == 200 and answer['accepted'] == n and answer['durable'] is True, (status, answer)

def pieces():
    yield from io.BytesIO(lines)

n = lines.count(b'\n')
if client == 'urllib':
    from urllib.request import Request, urlopen
    with urlopen(Request(url('all'), data=lines, headers=ndjson)) as r:
        check(r.status, json.load(r), n)
    out.write(lines)
elif client == 'requests':
    import requests
    with requests.Session() as s:
        r = s.post(url('all'), data=lines, headers=ndjson)
        check(r.status_code, r.json(), n)
        r = s.post(url('all'), data=pieces(), headers=ndjson)
        check(r.status_code, r.json(), n)
        r = s.post(url('all'), data=gzip.compress(lines), headers={**ndjson, 'Content-Encoding': 'gzip'})
        check(r.status_code, r.json(), n)
        r = s.post(url('all'), json=records, headers=auth)
        check(r.status_code, r.json(), 100)
    out.write(lines * 3 + b''.join(json.dumps(x).encode() + b'\n' for x in records))
elif client == 'httpx':
    import asyncio, httpx
    with httpx.Client(headers=auth) as c:
        r = c.post(url('all'), content=lines, headers=ndjson)
        check(r.status_code, r.json(), n)
        r = c.post(url('all'), content=pieces(), headers=ndjson)
        check(r.status_code, r.json(), n)
        r = c.post(url('all'), json=records)
        check(r.status_code, r.json(), 100)
        # The same key again: one answer, records stored once.
        key = {**ndjson, 'Idempotency-Key': 'a-key'}
        first = c.post(url('all'), content=lines, headers=key).json()
        again = c.post(url('all'), content=lines, headers=key).json()
        assert again == {**first, 'duplicate': True}, (first, again)
    async def many():
        async with httpx.AsyncClient(headers=auth) as c:
            answers = await asyncio.gather(*(c.post(url('all'), json=x) for x in records))
            for r in answers:
                check(r.status_code, r.json(), 1)
    asyncio.run(many())
    small = [json.dumps(x, ensure_ascii=False, separators=(',', ':')).encode() + b'\n' for x in records]
    out.write(lines * 3 + b''.join(small) * 2)
PY
head -n 2000 "$work/sent" >"$work/lines"
python_client() { # NAME PYTHON LABEL
  timeout 60 "$2" "$work/client.py" "$1" "http://$address/v1/streams" "$token" "$work/lines" "$work/expected" >"$work/out" 2>&1 ||
    not_ok "$1: $(tail -n 1 "$work/out")"
  found "$1-all" "$work/expected" "$3" "${4:-}"
}
if command -v python3 >/dev/null; then
  python_client urllib python3 "$(python3 -V), urllib: header Content-Type (else it says form)"
else
  skip 'Python urllib: there is no python3'
fi
python=$clients/venv/bin/python3
[ -x "$python" ] || python=python3
for name in requests httpx; do
  version=$("$python" -c "import $name; print($name.__version__)" 2>/dev/null) || { skip "Python $name: it is not installed (--install)"; continue; }
  case $name in
    requests) python_client requests "$python" "Python requests $version, data=bytes, data=generator (chunked), gzip: header Content-Type; json=list: nothing" ;;
    httpx) python_client httpx "$python" "Python httpx $version, content=bytes and generator: header Content-Type; json=, 100 at once by AsyncClient: nothing; Idempotency-Key twice: stored once" any-order ;;
  esac
done

# --- pino

cat >"$work/app.cjs" <<'JS'
const pino = require(require.resolve('pino', { paths: [process.argv[2]] }));
const [, , , logs, transportFile, optionsFile] = process.argv;
const file = { target: 'pino/file', options: { destination: logs } };
const options = transportFile && JSON.parse(require('node:fs').readFileSync(optionsFile));
const log = transportFile ? pino(pino.transport({ targets: [file, { target: transportFile, options }] })) : pino();
for (let i = 0; i < 1001; i++) log.info({ i, price: 1.5, who: 'Zoë' }, 'order "%d"', i);
JS
# until STREAM N: the log holds that many.
until_there() {
  for _ in $(seq 100); do
    [ "$(spillway read --dir "$dir" --stream "$1" | wc -l)" -ge "$2" ] && return
    sleep 0.1
  done
}
if command -v curl >/dev/null; then
  node "$work/app.cjs" "$PWD" | tee "$work/expected" | send "${ndjson[@]}" --data-binary @- "$(url pino-curl)"
  found pino-curl "$work/expected" 'pino | curl --data-binary @-: sends when the program ends'
fi
sender=$clients/npm/node_modules/pino-http-send
if [ -d "$sender" ]; then
  version=$(node -p 'require(process.argv[1]).version' "$sender/package.json")
  options() {
    printf '{"url":"%s","bodyType":"ndjson","batchSize":100,"timeout":200,"headers":{"content-type":"application/x-ndjson","authorization":"Bearer %s"}}' \
      "$(url "$1")" "$token" >"$work/$1.json"
  }
  options pino-pipe
  node "$work/app.cjs" "$PWD" | tee "$work/expected" | timeout 30 node "$sender/dist/bin.js" --config "$work/pino-pipe.json" >"$work/out" 2>&1
  found pino-pipe "$work/expected" "pino | pino-http-send $version: --config with bodyType ndjson and headers (it sends no Content-Type of its own, and flags set none)" any-order
  options pino-transport
  rm -f "$work/expected"
  printf 'module.exports = require("%s").createWriteStream;\n' "$sender" >"$work/transport.cjs"
  timeout 30 node "$work/app.cjs" "$PWD" "$work/expected" "$work/transport.cjs" "$work/pino-transport.json" >"$work/out" 2>&1
  until_there pino-transport 1001
  found pino-transport "$work/expected" "pino.transport with pino-http-send $version: one line of adapter, the same options" any-order
else
  skip 'pino through pino-http-send: it is not installed (--install)'
fi

# --- syslog-ng, from Debian: follows a file; meanwhile the gateway is killed and started again

if command -v syslog-ng >/dev/null && syslog-ng --version | grep -q 'http'; then
  version=$(syslog-ng --version | sed -nE 's/^Installer-Version: //p')
  cat >"$work/syslog-ng.conf" <<CONF
@version: $(cut -d. -f1,2 <<<"$version")
options { stats-freq(0); time-reopen(1); };
source lines { file("$work/app.log" flags(no-parse) follow-freq(0.1)); };
destination gateway {
  http(url("$(url syslog-ng)") method("POST") timeout(10)
    headers("Content-Type: application/x-ndjson", "Authorization: Bearer $token")
    body("\${MSG}") delimiter("\n") batch-lines(100) batch-timeout(200) retries(100));
};
log { source(lines); destination(gateway); flags(flow-control); };
CONF
  head -n 500 "$work/plain" >"$work/app.log"
  timeout 90 syslog-ng -F --no-caps -f "$work/syslog-ng.conf" -R "$work/persist" -p "$work/pid" -c "$work/ctl" >"$work/out" 2>&1 &
  shipper=$!
  pids+=("$shipper")
  until_there syslog-ng 500
  kill -9 "$gateway"
  wait "$gateway" 2>/dev/null
  tail -n +501 "$work/plain" | head -n 500 >>"$work/app.log"
  start_gateway
  until_there syslog-ng 1000
  spillway read --dir "$dir" --stream syslog-ng | LC_ALL=C sort >"$work/read"
  twice=$(uniq -d "$work/read" | wc -l)
  if cmp -s <(uniq "$work/read") <(LC_ALL=C sort -u "$work/app.log"); then
    ok "syslog-ng $version, http(): headers, body, delimiter, batch-lines; gateway killed and restarted meanwhile: none of $(wc -l <"$work/app.log") lines lost, $twice twice"
  else
    not_ok "syslog-ng $version: $(uniq "$work/read" | wc -l) of $(wc -l <"$work/app.log") lines are there"
    tail -n 3 "$work/out"
  fi
  kill "$shipper"
  wait "$shipper" 2>/dev/null
else
  skip 'syslog-ng with http(): it is not installed (--install)'
fi

kill "$gateway"
wait "$gateway"
status=$?
[ "$status" = 0 ] && ok 'SIGTERM: the gateway drained, exit 0' || not_ok "SIGTERM: exit $status"
if spillway verify --dir "$dir" >"$work/out" 2>&1; then ok 'spillway verify: no damage'; else not_ok "spillway verify: $(tail -n 1 "$work/out")"; fi
printf '%s of %s checks held\n' "$((checks - failed))" "$checks"
[ "$failed" = 0 ]
