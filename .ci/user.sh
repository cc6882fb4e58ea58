#!/usr/bin/env bash
# What a new user would try first, with curl: user.sh ADDRESS, of a watch server that is listening.
set -euo pipefail
address=$1
scratch=$(mktemp -d)
trap 'jobs -p | xargs -r kill 2>/dev/null; rm -rf "$scratch"' EXIT
cd "$scratch"

fail() {
  echo "not so: $1" >&2
  exit 1
}

# until_said FILE TEXT: waits for it.
until_said() {
  local waited=0
  until grep -qF -- "$2" "$1" 2>/dev/null; do
    [ $((waited += 1)) -le 100 ] || fail "$1 says '$2' within 10 s, but: $(head -c 300 "$1")"
    sleep 0.1
  done
}

get() { curl -sS --fail-with-body --max-time 30 "$@"; }
revision() { sed -n 's/.*"revision":\([0-9]*\).*/\1/p'; }

# Two readers of /hello are told at once of what a third says.
for reader in 1 2; do
  curl -sSN --max-time 30 -D hello$reader.head "http://$address/hello" >hello$reader &
done
until_said hello1 wait:
until_said hello2 wait:
[ "$(get "http://$address/ok/haha")" = OK ] || fail '/ok/haha answers OK'
until_said hello1 'id: haha'
until_said hello2 'id: haha'
[ "$(cat hello1)" = $'wait:\nid: haha' ] || fail "the reader has two lines, but: $(cat hello1)"
for line in 'Content-Type: text/plain' 'X-Content-Type-Options: nosniff' 'Transfer-Encoding: chunked'; do
  tr -d '\r' <hello1.head | grep -qixF "$line" || fail "/hello has $line, but: $(cat hello1.head)"
done
echo 'ok  /hello and /ok: two readers, told at once'

# A finite stream, after which the connection is used again.
get -v "http://$address/count" "http://$address/count" >count 2>count.log
[ "$(cat count)" = "$(printf 'world%d\n' 1 2 3 4 1 2 3 4)" ] || fail "/count counts to four, but: $(cat count)"
[ "$(grep -c '^\* Connected to' count.log)" -eq 1 ] && grep -qi 're-using existing connection' count.log ||
  fail "one connection for both, but: $(grep '^\*' count.log)"
echo 'ok  /count: twice, on one connection'

# A file that is no text, put and watched in two ways.
head -c 100000 /dev/urandom >file
since=$(get "http://$address/v1/kv?prefix=" | revision)
curl -sSN --max-time 30 -H 'Accept: application/x-ndjson' "http://$address/v1/watch?key=try/file&since=$since" >stream &
curl -sS --max-time 30 "http://$address/v1/watch?key=try/file&since=$since&wait=20s" >poll &
poll=$!
sleep 0.3 # so that both are held: told late, they would be told all the same
put=$(get -X PUT --data-binary @file "http://$address/v1/kv/try/file" | revision)
wait "$poll" || fail "the long poll is answered"
until_said stream '"type":"put"'
get "http://$address/v1/kv/try/file" | cmp - file || fail 'what is read is what was put'
python3 - "$put" <<'PYTHON' || fail 'both tell what was put'
import base64, json, sys
file = open("file", "rb").read()
poll = json.load(open("poll"))
lines = [json.loads(line) for line in open("stream")]
streamed = [event for event in lines if event["type"] == "put"]
assert poll["events"] == streamed and len(streamed) == 1, (poll["revision"], lines)
assert base64.b64decode(streamed[0]["value64"]) == file
assert streamed[0]["revision"] == poll["revision"] == int(sys.argv[1])
PYTHON
echo 'ok  a file of 100,000 random bytes: put, read, and told by a long poll and a stream'

# Only if it is still what it was.
tag=$(curl -sS -o /dev/null -D - "http://$address/v1/kv/try/file" | tr -d '\r' | sed -n 's/^[Ee][Tt]ag: //p')
code() { curl -sS -o /dev/null -w '%{http_code}' --max-time 30 "$@"; }
[ "$(code -H "If-None-Match: $tag" "http://$address/v1/kv/try/file")" = 304 ] || fail 'the same is not sent again: 304'
[ "$(code -X PUT -d new -H "If-Match: $tag" "http://$address/v1/kv/try/file")" = 200 ] || fail 'it is swapped: 200'
[ "$(code -X PUT -d newer -H "If-Match: $tag" "http://$address/v1/kv/try/file")" = 412 ] || fail 'it has changed: 412'
[ "$(code -X DELETE "http://$address/v1/kv/try/file")" = 200 ] || fail 'it is deleted: 200'
[ "$(code "http://$address/v1/kv/try/file")" = 404 ] || fail 'it is gone: 404'
echo 'ok  ETag, If-None-Match, If-Match, DELETE'
