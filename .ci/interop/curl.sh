#!/usr/bin/env bash
# What curl sends, to a watch server or to the echo server: curl.sh ADDRESS watch|echo. A line for each check.
set -euo pipefail
address=$1 kind=$2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

fail() {
  echo "not so: $1" >&2
  sed 's/^/    /' log >&2 2>/dev/null || true
  exit 1
}
get() { curl -sSv --max-time 30 "$@" 2>log; }
said() { tr -d '\r' <log | grep -qiE -- "$1" || fail "curl's log has: $1"; }
unsaid() { ! tr -d '\r' <log | grep -qiE -- "$1" || fail "curl's log does not have: $1"; }

case $kind in
  watch) url=http://$address/v1/kv/interop/curl ;;
  echo) url=http://$address/any/path ;;
esac

# comes_back NAME FILE OPTION..: curl with these options sends the file, and the same comes back.
comes_back() {
  local name=$1 file=$2
  shift 2
  get "$@" "$url" >answer || fail "$name is sent"
  cp log sent.log
  if [ "$kind" = watch ]; then
    get "$url" >answer || fail "$name is read"
    cp sent.log log
  fi
  cmp answer "$file" || fail "$name: what comes back is what was sent"
  echo "ok  $name"
}

head -c 60000 /dev/urandom >file
head -c 1000000 /dev/urandom >large
: >empty

comes_back 'PUT with a length' file -X PUT --data-binary @file
said '^< HTTP/1.1 20[01] '
unsaid '^< Connection: close'
comes_back 'PUT of 1 MB' large -X PUT --data-binary @large
comes_back 'PUT without content' empty -X PUT --data-binary @empty
comes_back 'PUT in chunks, from a pipe' file -T - <file
said '^> Transfer-Encoding: chunked'
comes_back 'PUT of 1 MB in chunks' large -T - <large
comes_back 'PUT in chunks, from a file' file -X PUT -H 'Transfer-Encoding: chunked' --data-binary @file
said '^> Transfer-Encoding: chunked'
comes_back 'PUT that expects 100 Continue' file -X PUT -H 'Expect: 100-continue' --expect100-timeout 20 --data-binary @file
said '^< HTTP/1.1 100 Continue'
unsaid 'Done waiting for 100-continue'
comes_back 'PUT in HTTP/1.0' file -0 -X PUT --data-binary @file
said '^< Connection: close'

get "$url" "$url" >answer || fail 'two are asked'
said 'Re-using existing connection'
[ "$(grep -c '^\* Connected to' log)" -eq 1 ] || fail 'one connection for both'
echo 'ok  two requests on one connection'

get -0 -H 'Connection: keep-alive' "$url" "$url" >answer || fail 'HTTP/1.0 is answered'
said '^< Connection: keep-alive'
said 'Re-using existing connection'
echo 'ok  two requests of HTTP/1.0 that say keep-alive, on one connection'

get -H 'Connection: close' "$url" >answer
said '^< Connection: close'
said 'Closing connection'
echo 'ok  Connection: close'

get -I "$url" >heads || fail 'HEAD is answered'
said '^< HTTP/1.1 200 '
said '^< Content-Length: [0-9]'
get -I "$url" "$url" >heads
said 'Re-using existing connection'
unsaid 'Excess found'
echo 'ok  HEAD, twice on one connection'

if [ "$kind" = watch ]; then
  [ "$(tr -d '\r' <heads | sed -n 's/^content-length: //Ip' | head -n 1)" = 60000 ] || fail "HEAD tells the length of the content"
  head -c 3000000 /dev/zero >huge
  for how in "-X PUT --data-binary @huge" "-X PUT -H Expect: --data-binary @huge" "-T -" "-X PUT -H Transfer-Encoding:chunked --data-binary @huge"; do
    # shellcheck disable=SC2086
    code=$(get $how -o answer -w '%{http_code}' "$url" <huge) || fail "too much is answered ($how)"
    [ "$code" = 413 ] || fail "too much is answered 413, but: $code ($how)"
  done
  get "$url" | cmp - file || fail 'what was too much has changed nothing'
  echo 'ok  3 MB are refused with 413, in four ways'
fi
