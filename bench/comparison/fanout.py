"""Runs servers in turn under the same load, and keeps what each run said: fanout.py --programs FOLDER [--quick].

A scenario is a load; in each round of it every server has one run, one behind the other, in a process of its own. So what the
machine does besides hits neighbours alike, and the ratio of two servers is the median of the ratios of each round.
"""

import argparse
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

import tables

SERVER_CORE, LOAD_CORE = "0", "1"
STREAMS = ["websocket", "sse", "chunked"]
TRANSPORTS = [*STREAMS, "poll"]

# The publisher and probes are connections, too.
OURS = {name: [name, "--listen", "127.0.0.1:0", "--connections", "20000"] for name in ["watch-mio", "watch-smol"]}
PEERS = {
    "axum": (["peer-axum"], STREAMS),
    "tokio-tungstenite": (["peer-tokio-tungstenite", "127.0.0.1:0"], ["websocket"]),
    "tokio-tungstenite, 4 KiB": (["peer-tokio-tungstenite", "127.0.0.1:0", "small"], ["websocket"]),
    "fastwebsockets": (["peer-fastwebsockets"], ["websocket"]),
}
NCHAN = {"websocket": "websocket", "sse": "eventsource", "chunked": "http-chunked", "poll": "longpoll"}
# Peers differ by more than rounds do.
PEER_ROUNDS = 3
# 16 changes at once: on one connection, one behind the other.
BURST = ["--burst", "16", "--warm-up", "64"]
# What nchan needs to hear besides.
NCHAN_LOAD = {"chunked": ["--field", "TE: chunked"], "poll": ["--poll-by-tag"]}


def main():
    options = arguments()
    # As an exception, so that the server and the load of this moment are ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.out / "results.jsonl"
    with results.open("w") as out:
        for scenario in scenarios(options):
            for number in range(scenario["rounds"]):
                for name in scenario["servers"]:
                    if number >= PEER_ROUNDS and name not in OURS and name != "bare":
                        continue
                    record = measured(name, scenario, number, options)
                    out.write(json.dumps(record) + "\n")
                    out.flush()
                    progress(record)
    print()
    sys.exit(tables.write(results, options.out) > 0)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", type=pathlib.Path, required=True, help="the folder with the built programs")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("bench/target/fanout"), help="for results, tables and plots")
    parser.add_argument("--quick", action="store_true", help="one round of a tenth, 1,000 subscribers: to see that it works")
    parser.add_argument("--rounds", type=int, help="of each scenario: 5, with --quick 1")
    parser.add_argument("--scale", type=float, help="how much of the changes of each scenario: 1, with --quick 0.1")
    parser.add_argument("--only", default="", help="scenarios with this in their name: websocket-10000-burst1")
    parser.add_argument("--servers", default="", help="only these, separated by commas")
    return parser.parse_args()


def scenarios(options):
    """The loads, and who has them."""
    scale = options.scale or (0.1 if options.quick else 1)
    rounds = options.rounds or (1 if options.quick else 5)
    counts = [1000] if options.quick else [1000, 10000]

    def scenario(name, transport, count, deliveries, servers, *load, calls=0):
        changes = max(4, int(deliveries * scale) // count)
        return {
            "name": name, "transport": transport, "subscribers": count, "rounds": rounds, "servers": servers, "calls": calls,
            "load": ["--transport", transport, "--subscribers", str(count), "--changes", str(changes), *load],
        }

    def everyone(transport):
        peers = [name for name, (_, transports) in PEERS.items() if transport in transports]
        return [*OURS, "bare", *peers, "nchan"]

    found = []
    for transport in TRANSPORTS:
        deliveries = 400_000 if transport == "poll" else 2_000_000
        for count in counts:
            name = f"{transport}-{count}"
            found.append(scenario(f"{name}-one", transport, count, deliveries, everyone(transport), calls=20))
            found.append(scenario(f"{name}-burst", transport, count, 2 * deliveries, everyone(transport), *BURST, calls=64))
            # The same from 16 writers at once.
            if transport != "poll":
                found.append(scenario(f"{name}-writers", transport, count, 2 * deliveries, everyone(transport), *BURST, "--writers", "16", calls=64))
        # As many changes as make 100,000 deliveries a second: who is behind has delays.
        found.append(scenario(f"{transport}-{counts[0]}-rate", transport, counts[0], 500_000, everyone(transport), "--rate", "100"))
        found.append(scenario(f"{transport}-{counts[-1]}-distinct", transport, counts[-1], counts[-1] * (4 if options.quick else 1000), [*OURS], "--keys", "distinct"))
    found.append(scenario(f"websocket-{counts[-1]}-probe", "websocket", counts[-1], 2_000_000, [*OURS], "--probe", "500"))
    if options.servers:
        wanted = options.servers.split(",")
        for one in found:
            one["servers"] = [name for name in one["servers"] if name in wanted]
    return [one for one in found if options.only in one["name"] and one["servers"]]


def measured(name, scenario, number, options):
    """One run: a server of its own, and the load on it."""
    load = list(scenario["load"])
    if number == 0 and scenario["calls"]:
        load += ["--system-calls", str(scenario["calls"])]
    if name == "nchan":
        load += NCHAN_LOAD.get(scenario["transport"], [])
    record = {"scenario": scenario["name"], "server": name, "round": number}
    with Server(name, scenario["transport"], options.programs) as server:
        command = ["taskset", "-c", LOAD_CORE, options.programs / "load", server.address, "--server-pid", str(server.pid), *load]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=600)
    if done.returncode == 0:
        record.update(json.loads(done.stdout))
    else:
        record["fault"] = done.stderr.strip() or f"status {done.returncode}"
    return record


class Server:
    """A server on its core, ended when it is left."""

    def __init__(self, name, transport, programs):
        self.folder = None
        if name == "nchan":
            command = self.nchan(transport)
        elif name == "bare":
            command = [programs / ("bare-poll" if transport == "poll" else "bare-send")]
        else:
            program, *rest = OURS[name] if name in OURS else PEERS[name][0]
            command = [programs / program, *rest]
        # taskset becomes the server: its process is the server's.
        self.process = subprocess.Popen(["taskset", "-c", SERVER_CORE, *command], stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid
        if name == "nchan":
            self.wait_for_port()
        else:
            said = self.process.stdout.readline()
            if not said.startswith("listening on http://"):
                raise SystemExit(f"{name} did not get ready: {said!r}")
            self.address = said.split("//")[1].strip()

    def nchan(self, transport):
        """nginx in one process. A port cannot be left to the system, so it is one that was free a moment ago."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        self.folder = tempfile.TemporaryDirectory(prefix="nchan-")
        config = pathlib.Path(self.folder.name) / "nginx.conf"
        config.write_text(NGINX.format(folder=self.folder.name, address=self.address, subscriber=NCHAN[transport]))
        return ["nginx", "-c", config, "-p", self.folder.name, "-e", "stderr"]

    def wait_for_port(self):
        host, port = self.address.split(":")
        for _ in range(100):
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise SystemExit("nginx did not get ready")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        if self.folder:
            self.folder.cleanup()


NGINX = """
load_module /usr/lib/nginx/modules/ngx_nchan_module.so;
daemon off; master_process off; worker_processes 1;
pid {folder}/pid; error_log stderr crit;
worker_rlimit_nofile 19990;
events {{ worker_connections 19900; }}
http {{
  access_log off; keepalive_timeout 600s; keepalive_requests 100000000; tcp_nodelay on;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  client_body_in_single_buffer on;
  nchan_shared_memory_size 256M;
  server {{
    listen {address} backlog=1024;
    location ~ ^/v1/kv/(.+)$ {{
      nchan_publisher http; nchan_channel_id $1; nchan_message_buffer_length 256; nchan_message_timeout 60s;
    }}
    location = /v1/watch {{
      nchan_subscriber {subscriber}; nchan_channel_id $arg_key; nchan_subscriber_first_message newest;
    }}
  }}
}}
"""


def progress(record):
    if "fault" in record:
        said = "FAULT: " + record["fault"]
    else:
        said = f"{record['cpu_us']:8.3f} us a delivery, {record['deliveries_per_second']:>10,.0f} a second, load busy {record['load_busy']:.0%}"
    print(f"{record['scenario']:28} {record['round']}  {record['server']:26} {said}", file=sys.stderr)


if __name__ == "__main__":
    os.chdir(pathlib.Path(__file__).resolve().parents[2])
    main()
