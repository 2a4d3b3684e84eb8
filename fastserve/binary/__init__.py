"""`application/octet-stream` content: msgpack with numpy arrays and Truss's tags, both ways.

What msgpack-numpy and Truss's clients write is read, and what they read is written, byte for byte. Of those packages
only msgpack itself is needed, and only here: an optional extra. Called by `endpoints/`.
"""
