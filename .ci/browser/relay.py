"""A relay in front of a server, which keeps what went through, and can cut every connection."""

import socket
import threading


class Relay:
    def __init__(self, port):
        self.target = port
        self.sent, self.received = bytearray(), bytearray()  # by clients, in the order in which it came
        self.ended = []  # "client" and "server", in the order in which they ended their side
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
        for connection in (client, server):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connections += [client, server]
        threading.Thread(target=self.copy, args=(server, client, self.received), daemon=True).start()
        self.copy(client, server, self.sent)

    def copy(self, source, sink, kept):
        try:
            while data := source.recv(65536):
                kept += data
                sink.sendall(data)
        except OSError:
            pass
        self.ended.append("client" if kept is self.sent else "server")
        try:
            sink.shutdown(socket.SHUT_WR)
            while source.recv(65536):  # which the sink no longer takes
                pass
        except OSError:
            pass

    def cut(self):
        """Ends every connection; new ones wait until `open` is set."""
        self.open.clear()
        self.sent.clear()
        connections, self.connections = self.connections, []
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            connection.close()
