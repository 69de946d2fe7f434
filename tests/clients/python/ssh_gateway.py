"""A gateway that is no OpenSSH: an SSH server on asyncssh, strict where RFC 4254 is, with one habit of its own.

Prints `PORT FINGERPRINT` and serves until its standard input ends. Every key may log in; remote forwards are granted. What
ends a session is printed, too.
"""

import asyncio
import sys

import asyncssh
from asyncssh.constants import (
    MSG_DISCONNECT,
    MSG_GLOBAL_REQUEST,
    MSG_REQUEST_FAILURE,
    MSG_UNIMPLEMENTED,
    MSG_USERAUTH_BANNER,
)
from asyncssh.packet import Boolean, String, UInt32

HABIT = sys.argv[1] if len(sys.argv) > 1 else "plain"
LATIN_1 = "f\u00fcr Befugte".encode("latin-1")


class Habits(asyncssh.SSHServerConnection):
    """Answers keep-alives in its own way."""

    def _process_global_request(self, pkttype, pktid, packet):
        if b"keepalive@openssh.com" in packet.get_full_payload():
            if HABIT == "unimplemented":
                return self.send_packet(MSG_UNIMPLEMENTED, UInt32(pktid))
            if HABIT == "mute":
                return None
            if HABIT == "slow-forward":
                # At once, before the answer to the forward that was asked for earlier, against RFC 4254 section 4.
                return self.send_packet(MSG_REQUEST_FAILURE)
            if HABIT == "goodbye-to-keep-alive":
                return self.disconnect(2, "Unknown global request")
            if HABIT == "close-at-keep-alive":
                return self.abort()
            if HABIT == "latin1-goodbye-to-keep-alive":
                self.send_packet(MSG_DISCONNECT, UInt32(2), String(LATIN_1), String(b""))
                return self.abort()
        return super()._process_global_request(pkttype, pktid, packet)

    _packet_handlers = dict(asyncssh.SSHServerConnection._packet_handlers)
    _packet_handlers[MSG_GLOBAL_REQUEST] = _process_global_request


class Gateway(asyncssh.SSHServer):
    """Lets everybody in, and listens where it is asked to."""

    def connection_made(self, conn):
        self.conn = conn
        conn.__class__ = Habits

    def connection_lost(self, exc):
        print("lost:", exc, flush=True)

    def begin_auth(self, username):
        if HABIT == "latin1-banner":
            # The public call takes text only.
            self.conn.send_packet(MSG_USERAUTH_BANNER, String(LATIN_1), String(b""))
        if HABIT == "utf8-banner":
            self.conn.send_auth_banner("f\u00fcr Befugte\u202e\x1b[31m " + "x" * 2000)
        if HABIT == "banner-in-pieces":
            for piece in ("Your account", "has expired;", "ask your administrator.", "", "\r\n"):
                self.conn.send_auth_banner(piece)
        return True

    def public_key_auth_supported(self):
        return True

    def validate_public_key(self, username, key):
        return HABIT != "banner-in-pieces"

    def auth_completed(self):
        asyncio.get_event_loop().call_later(0.5, self.act)

    def act(self):
        if HABIT == "unasked":
            self.request(b"notice@vendor.example")
        elif HABIT == "flood-long":
            for number in range(2000):
                self.request(b"%d@" % number + b"x" * 30_000)
        elif HABIT == "flood-short":
            for number in range(100_000):
                self.request(b"%d@vendor.example" % number)
        elif HABIT == "latin1-goodbye":
            self.conn.send_packet(MSG_DISCONNECT, UInt32(11), String(LATIN_1), String(b""))
        elif HABIT == "goodbye":
            self.conn.disconnect(11, "maintenance \u202e until \x1b[31mten")

    def request(self, name):
        self.conn.send_packet(MSG_GLOBAL_REQUEST, String(name), Boolean(False))

    async def server_requested(self, listen_host, listen_port):
        if HABIT == "slow-forward":
            await asyncio.sleep(5)
        return True

    def session_requested(self):
        return False


class Tolerant(Habits):
    """Takes answers that nobody has asked for."""

    def _process_global_response(self, pkttype, pktid, packet):
        return None

    _packet_handlers = dict(Habits._packet_handlers)
    for answer in (81, 82):
        _packet_handlers[answer] = _process_global_response


if HABIT.startswith("flood"):
    Habits = Tolerant


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
