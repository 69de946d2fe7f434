"""A gateway on paramiko: remote forwards by its own hand, and strict key exchange only where `strict` is asked for.

Prints `PORT FINGERPRINT` and serves until its standard input ends. Every key may log in.
"""

import socket
import sys
import threading

import paramiko

STRICT = "strict" in sys.argv[1:]
KEY = paramiko.ECDSAKey.generate()


def pump(source, sink):
    try:
        while chunk := source.recv(32768):
            sink.sendall(chunk)
    except OSError:
        pass
    try:
        sink.shutdown_write() if isinstance(sink, paramiko.Channel) else sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


class Gateway(paramiko.ServerInterface):
    def __init__(self, transport):
        self.transport = transport

    def check_auth_publickey(self, username, key):
        return paramiko.AUTH_SUCCESSFUL

    def get_allowed_auths(self, username):
        return "publickey"

    def check_port_forward_request(self, address, port):
        listener = socket.create_server((address, port))
        threading.Thread(target=self.listen, args=(listener, address), daemon=True).start()
        return listener.getsockname()[1]

    def cancel_port_forward_request(self, address, port):
        pass

    def listen(self, listener, address):
        port = listener.getsockname()[1]
        while True:
            client, origin = listener.accept()
            channel = self.transport.open_forwarded_tcpip_channel(origin, (address, port))
            for ends in ((client, channel), (channel, client)):
                threading.Thread(target=pump, args=ends, daemon=True).start()


def serve(client):
    transport = paramiko.Transport(client, strict_kex=STRICT)
    transport.add_server_key(KEY)
    transport.start_server(server=Gateway(transport))


def accept(listener):
    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(client,), daemon=True).start()


listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=accept, args=(listener,), daemon=True).start()
print(listener.getsockname()[1], KEY.fingerprint, flush=True)
sys.stdin.read()
