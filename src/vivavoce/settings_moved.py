"""Variables of the servers people move over from that have no setting here, and what does instead.

Their names are so general that they may be meant for somebody else, so none of them is an error;
but nothing that was set is passed over without a word.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

ANSWERS = {
    "VAD_TRIM": "silence around each clause is always trimmed, and natural pauses take its place",
    "STREAM_TYPE": "each request chooses: stream_mode 'token' (the default) or 'sentence'",
    "STREAM_EMIT_FRAMES": "the sizes of chunks follow from the measured speed of the machine",
    "STREAM_FIRST_EMIT": "the first chunk is one frame where the machine is fast enough",
    "MAX_BATCH_SIZE": "requests join the batch at any frame; VIVAVOCE_CAPACITY says how many speak "
    "at once, and the engine's own capacity how many rows there are",
    "INFERENCE_CPU_CORES": "the engine's option threads (VIVAVOCE_QWEN3__THREADS), with taskset or "
    "Docker's cpuset to bind it to cores",
    "GATEWAY_MODE": "IDLE_TIMEOUT gives the model's memory back, and --supervise holds the port",
    "WORKER_HOST": "there is no second process to reach; see GATEWAY_MODE",
    "WORKER_PORT": "there is no second process to reach; see GATEWAY_MODE",
    "UNIX_SOCKET_PATH": "the server listens on an address; a proxy can offer a socket",
}


def moved_variables(environment: Mapping[str, str] = os.environ) -> list[str]:
    """A sentence for each such variable that has a value."""
    return [
        f"{name}={environment[name]} has no effect: {answer}."
        for name, answer in ANSWERS.items()
        if environment.get(name)
    ]
