// What node's HTTP client sends, to a watch server or to the echo server: node node.mjs ADDRESS watch|echo. A line for each check.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import http from "node:http";

const [address, kind] = process.argv.slice(2);
const [host, port] = address.split(":");
const path = kind === "watch" ? "/v1/kv/interop/node" : "/any/path";
setTimeout(() => { throw new Error("not done in 60 s"); }, 60_000).unref();

// Sends a request with its content in these parts, and gives what came.
function ask(method, { agent, headers = {}, parts = [], trailers, expect, path: where = path } = {}) {
  return new Promise((resolve, reject) => {
    const told = { continued: false };
    const request = http.request({ host, port, path: where, method, agent, headers }, (response) => {
      const content = [], { localPort } = response.socket;
      response.on("data", (part) => content.push(part));
      response.on("error", reject);
      response.on("end", () => resolve({
        ...told, status: response.statusCode, headers: response.headers, content: Buffer.concat(content), complete: response.complete,
        reused: request.reusedSocket, port: localPort,
      }));
    });
    request.on("error", reject);
    const send = () => {
      for (const part of parts) request.write(part);
      if (trailers) request.addTrailers(trailers);
      request.end();
    };
    if (expect) {
      request.on("continue", () => { told.continued = true; send(); });
      request.flushHeaders();
    } else send();
  });
}

async function comesBack(name, options, content = Buffer.concat(options.parts)) {
  const sent = await ask("PUT", options);
  assert.ok([200, 201].includes(sent.status), `${name}: ${sent.status} ${sent.content.subarray(0, 200)}`);
  const back = kind === "watch" ? await ask("GET", { agent: options.agent }) : sent;
  assert.ok(back.complete && back.content.equals(content), `${name}: what comes back is what was sent`);
  console.log(`ok  ${name}`);
  return sent;
}

const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const some = randomBytes(50_000), large = randomBytes(1_000_000);
const pieces = (content, size) => Array.from({ length: Math.ceil(content.length / size) }, (_, n) => content.subarray(n * size, (n + 1) * size));

await comesBack("PUT with a length", { agent, headers: { "Content-Length": some.length }, parts: [some] });
const chunked = await comesBack("PUT in chunks, on the same connection", { agent, headers: { "Transfer-Encoding": "chunked" }, parts: pieces(some, 777) });
assert.ok(chunked.reused);
const trailing = await comesBack("PUT in chunks with trailer fields, likewise",
  { agent, headers: { "Transfer-Encoding": "chunked", Trailer: "X-Digest" }, parts: pieces(some, 5_000), trailers: { "X-Digest": "abc", "Content-Length": "7" } });
assert.ok(trailing.reused);
assert.ok((await ask("GET", { agent })).reused);
await comesBack("PUT of 1 MB in chunks", { headers: { "Transfer-Encoding": "chunked" }, parts: pieces(large, 65_536) });
await comesBack("PUT of chunks of one byte", { headers: { "Transfer-Encoding": "chunked" }, parts: pieces(some.subarray(0, 3_000), 1) });
const expecting = await comesBack("PUT that expects 100 Continue",
  { agent, headers: { "Content-Length": some.length, Expect: "100-continue" }, parts: [some], expect: true });
assert.ok(expecting.continued, "100 Continue came");

for (let n = 0; n < 50; n += 1) {
  const got = await ask("GET", { agent });
  assert.ok(got.status === 200 && got.reused);
}
console.log("ok  50 GETs on one connection");

const pool = new http.Agent({ keepAlive: true, maxSockets: 8 });
const many = await Promise.all(Array.from({ length: 200 }, () => ask("GET", { agent: pool })));
assert.ok(many.length === 200 && many.every(({ status }) => status === 200) && new Set(many.map(({ port }) => port)).size <= 8);
console.log("ok  200 GETs on 8 connections");

const head = await ask("HEAD", { agent });
assert.ok(head.status === 200 && head.content.length === 0 && "content-length" in head.headers);
assert.ok((await ask("GET", { agent })).reused);
console.log("ok  HEAD, and a GET behind it on the same connection");

const last = await ask("GET", { headers: { Connection: "close" } });
assert.equal(last.headers.connection, "close");
console.log("ok  Connection: close");

if (kind === "watch") {
  const refused = await ask("PUT", { headers: { "Content-Length": 16 << 20, Expect: "100-continue" }, parts: [], expect: true });
  assert.ok(refused.status === 413 && !refused.continued);
  console.log("ok  16 MB that are only announced are refused with 413");
}
agent.destroy();
pool.destroy();
