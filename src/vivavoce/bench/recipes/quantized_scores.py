"""How far the scores of one form are from another's, on the same teacher-forced frames."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .quantized_variants import Variant

TEXT_TOKENS = 10


def agreement(given: Tensor, wanted: Tensor) -> dict[str, float]:
    """Cosine (mean and least) and top-1 agreement of scores [..., V]."""
    cosine = nn.functional.cosine_similarity(given, wanted, -1)
    same = (given.argmax(-1) == wanted.argmax(-1)).float().mean()
    return {
        "cosine": round(float(cosine.mean()), 6),
        "least_cosine": round(float(cosine.min()), 6),
        "top1": round(float(same), 4),
    }


def random_codes(frames: int) -> Tensor:
    """Codes [T, 16] to force."""
    return torch.randint(0, 2048, (frames, 16), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def scores(variant: Variant, codes: Tensor) -> dict[str, Tensor]:
    """``talker`` [T, 3072] and ``predictor`` [T, 15, 2048] under the given codes, float32."""
    from vivavoce.engines.qwen3.frame import FrameIds, frame
    from vivavoce.engines.qwen3.prompt import PromptInputs, embed, plan
    from vivavoce.engines.qwen3.rows import RowOptions
    from vivavoce.runtime.nn.sampling import SamplerOptions

    config, talker = variant.config, variant.talker
    speaking = PromptInputs(list(range(1000, 1000 + TEXT_TOKENS)), "english", "ryan")
    laid = plan(config, speaking)
    span = len(laid.rows) + len(codes) + 1
    rows = variant.rows(1, span)
    plain = SamplerOptions(temperature=1.0, top_k=0, top_p=1.0)
    hidden = rows.prefill(talker, 0, embed(talker, laid.rows, speaking))
    options = RowOptions(plain, plain, repetition_penalty=1.0)
    rows.admit(0, hidden, len(laid.rows), laid.trailing, options)
    first, rest = [], []
    for forced in codes:
        scored: list[Tensor] = []

        def draw(
            found: Tensor, group: int, forced: Tensor = forced, scored: list[Tensor] = scored
        ) -> Tensor:
            scored.append(found[0].float())
            return forced[group : group + 1]

        frame(talker, rows.state, FrameIds.of(config), span, draw)
        first.append(talker.codec_head(rows.state.hidden)[0].float())
        rest.append(torch.stack(scored[1:]))
    return {"talker": torch.stack(first), "predictor": torch.stack(rest)}
