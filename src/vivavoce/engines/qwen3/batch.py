"""The rows on the device: prompts in, one frame of all rows at a time out, codes to sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vivavoce.engines.qwen3.frame import FrameIds, Status, frame
from vivavoce.engines.qwen3.model import Model
from vivavoce.engines.qwen3.prompt import Layout, Reference, Speaking, embed, plan
from vivavoce.engines.qwen3.rows import RowOptions, Rows
from vivavoce.engines.qwen3.voices import ClonedVoice
from vivavoce.errors import InputError, ModelFileError
from vivavoce.types import Samples

SHORTLIST = 64
"""Where every row keeps so few codes by top-k, choosing needs no sort; published models keep 50."""

Codes = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Words:
    """What a row begins with, as the engine says it: no tensors.

    ``speaker`` is a name of the configuration, ``clone`` a voice from a recording.
    """

    text_ids: Sequence[int]
    language: str
    speaker: str | None = None
    clone: ClonedVoice | None = None
    instruct_ids: Sequence[int] = ()
    whole: bool = False
    text_open: bool = False

    def speaking(self) -> Speaking:
        """With tensors."""
        clone, reference, x_vector = self.clone, None, None
        if clone is not None:
            x_vector = torch.from_numpy(clone.x_vector)
            if clone.codes is not None and clone.text_ids is not None:
                reference = Reference(clone.text_ids.tolist(), torch.from_numpy(clone.codes))
        return Speaking(
            self.text_ids,
            self.language,
            self.speaker,
            x_vector,
            self.instruct_ids,
            reference,
            Layout.WHOLE if self.whole else Layout.STREAMING,
            self.text_open,
        )


@dataclass(frozen=True, slots=True)
class Frame:
    """What one frame gave: ``codes`` int64 [rows, 16] and each row's status."""

    codes: Codes
    status: tuple[Status, ...]


class Batch:
    """``rows`` rows of ``positions`` positions each, with a codec state for each."""

    def __init__(self, model: Model, rows: int, positions: int) -> None:
        self._model = model
        self._ids = FrameIds.of(model.config)
        self._positions = positions
        self._rows = Rows(model.config.talker, rows, positions, model.talker.codec_head.weight)
        self._codec = model.codec.init_state(rows)
        self._at = [0] * rows
        self._first: set[int] = set()
        self._sorting: set[int] = set()

    def begin(self, row: int, words: Words, options: RowOptions) -> None:
        """Prefill and admit. Raises InputError for what leaves no room to speak."""
        speaking = words.speaking()
        laid = plan(self._model.config, speaking)
        prompt = embed(self._model.talker, laid.rows, speaking)
        with torch.no_grad():
            hidden = self._rows.prefill(self._model.talker, row, prompt)
        length = len(laid.rows)
        self._begin_codec(row, words.clone)
        self._at[row] = length
        self._first.add(row)
        if not (options.talker.fits(SHORTLIST) and options.codes.fits(SHORTLIST)):
            self._sorting.add(row)
        self._rows.admit(row, hidden, length, laid.trailing, options, text_open=words.text_open)

    def extend(self, row: int, ids: Sequence[int]) -> None:
        """More text of a row that was begun open."""
        self._rows.extend(row, ids)

    def finish(self, row: int) -> None:
        """No more text."""
        self._rows.finish(row, self._model.config.tts_eos_token_id)

    def release(self, row: int, *, failed: bool = False) -> None:
        """Make a row idle; what a ``failed`` one leaves behind is cleared."""
        self._rows.release(row)
        if failed:
            self._rows.scrub(row)
        self._at[row] = 0
        self._first.discard(row)
        self._sorting.discard(row)

    def frame(self, width: int) -> Frame:
        """Advance the first ``width`` rows by one frame, and wait for it."""
        state = self._rows.first(width)
        span = min(max(self._at[:width]) + 1, self._positions)
        begun = any(at > 0 and row not in self._first for row, at in enumerate(self._at[:width]))
        most = 0 if self._sorting else SHORTLIST
        frame(self._model.talker, state, self._ids, span, step=begun, most=most)
        self._first.difference_update(range(width))
        told = torch.cat((state.codes, state.status[:, None]), 1).cpu().numpy()
        status = tuple(Status(int(bits)) for bits in told[:, -1])
        for row in range(width):
            self._at[row] += self._at[row] > 0
        return Frame(told[:, :-1], status)

    @torch.no_grad()
    def decode(self, rows: Sequence[int], codes: Codes) -> list[Samples]:
        """The next ``codes`` [len(rows), T, 16] of some rows to their sound, T * 1920 each."""
        given = torch.from_numpy(codes).to(self._model.place.device)
        together = rows[-1] - rows[0] + 1 == len(rows)
        state = self._codec.view(rows[0], rows[-1] + 1) if together else self._codec.gather(rows)
        samples = self._model.codec.decode(given, state).float().cpu().numpy()
        if not together:
            for number, row in enumerate(rows):
                self._codec.copy_row(row, state, number)
        return [np.array(each, np.float32) for each in samples]

    def memory_bytes(self) -> int:
        """Memory of keys, values and codec states."""
        state = self._rows.state
        buffers = (state.kv, state.predictor.kv)
        kv = sum(buffer.keys.nbytes + buffer.values.nbytes for buffer in buffers)
        return kv + self._codec.row_bytes * self._codec.batch

    def _begin_codec(self, row: int, clone: ClonedVoice | None) -> None:
        if clone is None or not clone.codec_state:
            self._codec.reset(row)
            return
        kept = {name: torch.from_numpy(part) for name, part in clone.codec_state.items()}
        try:
            self._codec.copy_row(row, self._codec.with_tensors(kept))
        except ModelFileError as error:
            raise InputError("The voice was made with another model.", param="voice") from error
