"""The process that espeak-ng runs in: ``python -m vivavoce.runtime.espeak_child BOUNDS``."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
from pathlib import Path
from typing import Any

from vivavoce.runtime.worker_child import serve


def load_bridge() -> Any:
    """piper-tts's bridge to espeak-ng, without what its package imports: ONNX Runtime and NumPy.

    Raises ImportError.
    """
    package = importlib.util.find_spec("piper")
    folders = package.submodule_search_locations if package is not None else None
    if not folders:
        raise ImportError("piper-tts is not installed")
    finder = importlib.machinery.FileFinder(
        folders[0],
        (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES),
    )
    spec = finder.find_spec("espeakbridge")
    if spec is None or spec.loader is None:
        raise ImportError("this piper-tts has no bridge to espeak-ng")
    bridge = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bridge)
    bridge.initialize(str(Path(folders[0]) / "espeak-ng-data"))
    return bridge


def main() -> None:
    """Answer until there is nothing more to speak."""
    bridge = load_bridge()

    def answer(request: bytes) -> bytes:
        """From JSON ``[voice, text]``, to a list of clauses, or to a sentence that says why not."""
        voice, text = json.loads(request)
        try:
            bridge.set_voice(voice)
            return json.dumps(bridge.get_phonemes(text)).encode()
        except RuntimeError as error:
            return json.dumps(str(error)).encode()

    serve(answer)


if __name__ == "__main__":
    main()
