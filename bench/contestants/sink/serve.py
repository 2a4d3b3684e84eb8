"""The floor of large content: a blocking socket that receives into one buffer, or sends one."""

import json
import re
import socket

from work import MAX_CONTENT, PORT, WORK, download

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n"


def exchange(peer, buffer):
    """One request and its answer. Returns False once the peer has gone."""
    received = peer.recv_into(buffer)
    if not received:
        return False
    while (end := buffer.find(b"\r\n\r\n", 0, received)) < 0:
        received += peer.recv_into(memoryview(buffer)[received:])
    length = int(re.search(rb"(?i)content-length: *(\d+)", buffer[:end])[1])
    whole = end + 4 + length
    view = memoryview(buffer)
    while received < whole:
        received += peer.recv_into(view[received:])
    if WORK == "upload":
        content = json.dumps({"received": length}).encode()
    else:
        content = download(json.loads(buffer[end + 4 : whole])["bytes"])
    peer.sendall(HEAD % len(content))
    peer.sendall(content)
    return True


buffer = bytearray(MAX_CONTENT)
with socket.create_server(("127.0.0.1", PORT)) as listening:
    while True:
        peer, _ = listening.accept()
        with peer:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while exchange(peer, buffer):
                pass
