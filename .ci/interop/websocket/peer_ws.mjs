// node's ws, as told by lines.py: peer_ws.mjs FOLDER client | server [NAME=VALUE].., where the folder is that of `npm ci`.
import http from "node:http";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [folder, role, ...words] = process.argv.slice(2);
const { WebSocket, WebSocketServer } = createRequire(`${folder}/`)("ws");
const say = (...said) => process.stdout.write(`${said.join(" ")}\n`);
const bytes = (hex) => Buffer.from(hex, "hex");
const fields = (given) => Object.fromEntries(given.map((word) => [word.slice(0, word.indexOf("=")), word.slice(word.indexOf("=") + 1)]));
const maxPayload = 64 << 20;

// The parameters of permessage-deflate, as it calls them.
function deflate(text) {
  const named = { server_no_context_takeover: "serverNoContextTakeover", client_no_context_takeover: "clientNoContextTakeover",
    server_max_window_bits: "serverMaxWindowBits", client_max_window_bits: "clientMaxWindowBits" };
  const pairs = text.split(";").filter(Boolean).map((part) => part.split("="));
  const asked = Object.fromEntries(pairs.map(([name, value]) => [named[name], value ? Number(value) : true]));
  return { threshold: 0, ...(role === "client" ? { clientMaxWindowBits: false } : {}), ...asked };
}

function told(socket, word, rest) {
  if (word === "text") socket.send(bytes(rest[0]), { binary: false });
  else if (word === "binary") socket.send(bytes(rest[0]));
  else if (word === "ping") socket.ping(bytes(rest[0]));
  else if (word === "close") {
    if (rest[0] === "-") socket.close();
    else socket.close(Number(rest[0]), bytes(rest[1]));
  } else {
    const parts = rest[0].split(",");
    parts.forEach((part, at) => {
      if (part.startsWith("!")) socket.ping(bytes(part.slice(1)));
      else socket.send(bytes(part), { binary: word === "binary-parts", fin: at === parts.length - 1 });
    });
  }
}

function hear(socket, heard) {
  let opened = false;
  const open = () => {
    opened = true;
    say("open", socket.protocol || "-", socket.extensions.includes("permessage-deflate") ? "deflate" : "-");
  };
  if (role === "client") socket.on("open", open);
  else open();
  socket.on("message", heard);
  socket.on("error", (error) => { if (!opened) say("failed", String(error)); });
  socket.on("close", (code, reason) => { if (opened) say("closed", code, reason.toString("hex")); });
}

let current;
if (role === "server") {
  const options = fields(words);
  const server = http.createServer();
  const sockets = new WebSocketServer({
    server, maxPayload, perMessageDeflate: "deflate" in options && deflate(options.deflate),
    handleProtocols: (offered) => options.protocol !== undefined && offered.has(options.protocol) && options.protocol,
  });
  sockets.on("connection", (socket) => {
    current = socket;
    hear(socket, (message, binary) => socket.send(message, { binary }));
  });
  server.listen(0, "127.0.0.1", () => say(`listening on http://127.0.0.1:${server.address().port}`));
}

for await (const line of createInterface({ input: process.stdin })) {
  const [word, ...rest] = line.split(" ");
  if (word === "open") {
    const options = fields(rest.slice(1));
    const perMessageDeflate = "deflate" in options && deflate(options.deflate);
    current = new WebSocket(rest[0], options.protocols?.split(",") ?? [], { maxPayload, perMessageDeflate });
    hear(current, (message, binary) => say(binary ? "binary" : "text", message.toString("hex")));
  } else told(current, word, rest);
}
process.exit();
