"""What bench/load/traffic.py asks for: an echo, a checksum, a stream, a wait, a failure."""

import time
import zlib


class Model:
    def predict(self, wish):
        what = wish["what"]
        if what == "sum":
            return zlib.crc32(wish["text"].encode())
        if what == "stream":
            return (f"{wish['mark']}:{number};" for number in range(wish["pieces"]))
        if what == "fail":
            raise ValueError("failing as asked")
        if what == "wait":
            time.sleep(wish["seconds"])
        return {"echo": wish}
