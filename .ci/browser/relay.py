"""A relay in front of a server, which keeps what clients sent, and can cut every connection."""

import socket
import threading


class Relay:
    def __init__(self, port):
        self.target = port
        self.sent = b""  # by clients, in the order in which it came
        self.connections = []
        self.open = threading.Event()
        self.open.set()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.relay, args=(client,), daemon=True).start()

    def relay(self, client):
        self.open.wait()
        server = socket.create_connection(("127.0.0.1", self.target))
        self.connections += [client, server]
        threading.Thread(target=self.copy, args=(server, client, False), daemon=True).start()
        self.copy(client, server, True)

    def copy(self, source, sink, keep):
        try:
            while data := source.recv(65536):
                if keep:
                    self.sent += data
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def cut(self):
        """Ends every connection; new ones wait until `open` is set."""
        self.open.clear()
        self.sent = b""
        connections, self.connections = self.connections, []
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            connection.close()
