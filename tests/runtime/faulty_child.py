"""A worker that does what its request says, good or bad."""

from __future__ import annotations

import os
import signal
import sys
import time

from vivavoce.runtime.worker_child import serve


def answer(request: bytes) -> bytes:
    """Misbehave as told, or say the request again."""
    match request.split()[0]:
        case b"crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case b"hang":
            time.sleep(3_600)
        case b"spin":
            while True:
                pass
        case b"memory":
            bytearray(8 * 1024**3)
        case b"raise":
            raise RuntimeError("a fault of its own")
        case b"exit":
            os._exit(0)
        case b"chatter":
            sys.stdout.write("noise " * 1_000)
            sys.stdout.flush()
            os.write(1, b"more noise" * 1_000)
            os.write(2, b"and more" * 100_000)
        case b"long":
            return bytes(10_000)
        case b"file":
            with open(request.split()[1].decode(), "wb") as file:
                file.write(b"x")
        case b"environment":
            return os.environ.get(request.split()[1].decode(), "").encode()
        case b"pid":
            return str(os.getpid()).encode()
    return request


if __name__ == "__main__":
    serve(answer)
