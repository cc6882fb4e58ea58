// A server on node that answers in every way in which a server may answer. It says where it listens.
import http from "node:http";
import { createHash } from "node:crypto";

const later = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
const read = async (request) => {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts);
};

const answers = {
  async "/echo"(request, response) {
    const content = await read(request);
    response.setHeader("Content-Length", content.length);
    response.setHeader("X-Digest", createHash("sha256").update(content).digest("hex"));
    response.setHeader("X-Framing", request.headers["transfer-encoding"] ?? "length");
    response.end(content);
  },
  async "/chunked"(request, response) {
    response.setHeader("Trailer", "X-Sum");
    for (let n = 0; n < 100; n += 1) response.write(`part ${n}\n`);
    await later(20);
    response.write("x".repeat(100_000));
    response.addTrailers({ "X-Sum": "42" });
    response.end();
  },
  async "/hints"(request, response) {
    response.writeEarlyHints({ link: "</style.css>; rel=preload" });
    await later(20);
    response.writeProcessing();
    response.end("hinted");
  },
  // Nothing of the content is read.
  "/refused"(request, response) {
    response.writeHead(403, { Connection: "close", "Content-Length": 7 });
    response.end("refused");
  },
  "/close"(request, response) {
    response.useChunkedEncodingByDefault = false;
    response.setHeader("Connection", "close");
    response.write("up to ");
    setTimeout(() => response.end("the end"), 50);
  },
  "/cut"(request, response) {
    response.setHeader("Content-Length", 100);
    response.write("not all");
    setTimeout(() => request.socket.end(), 50);
  },
  "/cut-chunked"(request, response) {
    response.write("not all");
    setTimeout(() => request.socket.end(), 50);
  },
  "/nothing"(request, response) {
    response.writeHead(204).end();
  },
  "/unchanged"(request, response) {
    response.writeHead(304, { ETag: '"1"' }).end();
  },
};

const server = http.createServer(async (request, response) => {
  await (answers[request.url] ?? ((_, none) => none.writeHead(404).end()))(request, response);
});
server.on("checkContinue", (request, response) => {
  if (request.url === "/no-continue") return response.writeHead(417, { "Content-Length": 2 }).end("no");
  response.writeContinue();
  return server.emit("request", request, response);
});
if (process.argv[2] === "upgrades") {
  server.on("upgrade", (request, socket) => {
    socket.end("HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat\r\nConnection: Upgrade\r\n\r\nbytes of another protocol");
  });
}
server.listen(0, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${server.address().port}`));
