"""Servers on 127.0.0.1, on ports of the system's choice, that are always ended."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

# Told to end, they end what they started.
signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))


def end(process):
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Server:
    """Any server that says `listening on http://ADDRESS` when it is ready."""

    def __init__(self, *command):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("listening on http://127.0.0.1:"):
            end(self.process)
            raise AssertionError(f"{command} says {line!r}")
        self.address = line.strip().removeprefix("listening on http://")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        end(self.process)


class Nginx:
    """nginx with these locations, in a folder of its own; `http://upstream` is the given address, on kept connections."""

    def __init__(self, locations, upstream):
        self.folder = tempfile.TemporaryDirectory(prefix="keepwatch-nginx-")
        folder = self.folder.name
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        self.root = f"{folder}/www"
        os.mkdir(self.root)
        os.chmod(folder, 0o755)  # its workers are another user
        temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        with open(f"{folder}/nginx.conf", "w") as file:
            file.write(f"""
                daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log info;
                events {{ worker_connections 512; }}
                http {{
                    access_log {folder}/access.log; {temporary} default_type application/octet-stream;
                    client_max_body_size 64m; keepalive_requests 100000;
                    upstream upstream {{ server {upstream}; keepalive 8; }}
                    server {{ listen {self.address}; root {self.root}; {locations} }}
                }}""")
        self.process = subprocess.Popen(["nginx", "-p", folder, "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"])
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                return
            except OSError:
                time.sleep(0.05)
        end(self.process)
        raise AssertionError(f"nginx did not get ready: {self.errors()}")

    def errors(self):
        with open(f"{self.folder.name}/error.log") as file:
            return file.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        end(self.process)
        self.folder.cleanup()
