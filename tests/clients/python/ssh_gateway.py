"""A gateway that is no OpenSSH: an SSH server on asyncssh, strict where RFC 4254 is, with one habit of its own.

Prints `PORT FINGERPRINT` and serves until its standard input ends. Every key may log in; remote forwards are granted.
"""

import asyncio
import sys

import asyncssh
from asyncssh.constants import MSG_GLOBAL_REQUEST, MSG_UNIMPLEMENTED
from asyncssh.packet import Boolean, String, UInt32

HABIT = sys.argv[1] if len(sys.argv) > 1 else "plain"
LATIN_1 = "f\u00fcr Befugte".encode("latin-1")


class Habits(asyncssh.SSHServerConnection):
    """Answers keep-alives in its own way."""

    def _process_global_request(self, pkttype, pktid, packet):
        body = packet.get_full_payload()
        keepalive = b"keepalive@openssh.com" in body
        if keepalive and HABIT == "unimplemented":
            self.send_packet(MSG_UNIMPLEMENTED, UInt32(pktid))
            return True
        if keepalive and HABIT == "mute":
            return True
        if HABIT == "slow-forward" and b"tcpip-forward" in body:
            loop = asyncio.get_event_loop()
            again = asyncssh.packet.SSHPacket(body)
            again.get_byte()
            loop.call_later(
                5, super()._process_global_request, pkttype, pktid, again
            )
            return True
        return super()._process_global_request(pkttype, pktid, packet)

    _packet_handlers = dict(asyncssh.SSHServerConnection._packet_handlers)
    _packet_handlers[MSG_GLOBAL_REQUEST] = _process_global_request


class Gateway(asyncssh.SSHServer):
    """Lets everybody in, and listens where it is asked to."""

    def connection_made(self, conn):
        self.conn = conn
        conn.__class__ = Habits

    def begin_auth(self, username):
        if HABIT == "latin1-banner":
            # The public call takes text only.
            self.conn.send_packet(
                asyncssh.constants.MSG_USERAUTH_BANNER, String(LATIN_1), String(b"")
            )
        return True

    def public_key_auth_supported(self):
        return True

    def validate_public_key(self, username, key):
        return True

    def auth_completed(self):
        loop = asyncio.get_event_loop()
        loop.call_later(0.5, self.act)

    def act(self):
        name = HABIT.encode()
        if HABIT == "unasked":
            self.request(b"notice@vendor.example")
        elif HABIT == "flood-long":
            for number in range(2000):
                self.request(b"%d@" % number + b"x" * 30_000)
        elif HABIT == "flood-short":
            for number in range(100_000):
                self.request(b"%d@vendor.example" % number)
        elif HABIT == "latin1-goodbye":
            self.conn.send_packet(
                asyncssh.constants.MSG_DISCONNECT, UInt32(11), String(LATIN_1), String(b"")
            )
            self.conn.abort()
        elif HABIT == "goodbye":
            self.conn.disconnect(11, "maintenance \u202e until \x1b[31mten")
        assert name

    def request(self, name):
        self.conn.send_packet(MSG_GLOBAL_REQUEST, String(name), Boolean(False))

    def server_requested(self, listen_host, listen_port):
        return True

    def session_requested(self):
        return False

    def connection_requested(self, dest_host, dest_port, orig_host, orig_port):
        return True


async def main():
    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=Gateway,
        server_host_keys=[key],
        compression_algs=None,
    )
    print(server.get_port(), key.get_fingerprint(), flush=True)
    await asyncio.get_event_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
