"""The process that encodes one recording: arguments as ``encode`` passes them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np


def main(arguments: list[str]) -> None:
    """``samples.npy codes.npy device threads codec semantic``; writes the codes."""
    given, made, device, threads, codec, semantic = arguments
    import torch

    from vivavoce.engines.neutts.codec.encoder.loading import open_encoder
    from vivavoce.engines.neutts.codec.encoder.modules import encoded
    from vivavoce.errors import SettingsError

    if device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("encoder_device='cuda', but PyTorch sees no CUDA device.")
    if int(threads):
        torch.set_num_threads(int(threads))
    encoder = open_encoder(codec, semantic or None, device)
    codes = encoded(encoder, np.load(given, allow_pickle=False), torch.device(device))
    np.save(Path(made), codes, allow_pickle=False)


if __name__ == "__main__":
    main(sys.argv[1:])
