"""The floor of large content: a blocking socket that receives into one buffer of its size, or sends one."""

import json
import re
import socket

from work import PORT, WORK, download

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n"


def exchange(peer):
    """One request and its answer. Returns False once the peer has gone."""
    begun = bytearray()
    while (end := begun.find(b"\r\n\r\n")) < 0:
        piece = peer.recv(65536)
        if not piece:
            return False
        begun += piece
    # A buffer of the content's size, received with MSG_WAITALL: the strongest of the blocking sinks tried.
    content = bytearray(int(re.search(rb"(?i)content-length: *(\d+)", begun[:end])[1]))
    received = len(begun) - end - 4
    content[:received] = begun[end + 4 :]
    view = memoryview(content)
    while received < len(content):
        received += peer.recv_into(view[received:], 0, socket.MSG_WAITALL)
    if WORK == "upload":
        answer = json.dumps({"received": len(content)}).encode()
    else:
        answer = download(json.loads(content)["bytes"])
    peer.sendall(HEAD % len(answer))
    peer.sendall(answer)
    return True


with socket.create_server(("127.0.0.1", PORT)) as listening:
    while True:
        peer, _ = listening.accept()
        with peer:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while exchange(peer):
                pass
