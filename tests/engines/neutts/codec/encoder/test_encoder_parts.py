"""Each block of the encoders computes what its formula says."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from vivavoce.engines.neutts.codec.encoder.acoustic import (  # noqa: E402
    AcousticEncoder,
    SemanticEncoder,
    SmoothActivation,
    SnakeBeta,
    low_pass,
)
from vivavoce.engines.neutts.codec.encoder.distilled import (  # noqa: E402
    HEADS,
    DistilledAcoustic,
    DistilledShape,
    LocalAttention,
)
from vivavoce.engines.neutts.codec.encoder.hubert import Hubert, HubertShape  # noqa: E402
from vivavoce.engines.neutts.codec.encoder.recording import prepare_recording  # noqa: E402
from vivavoce.engines.neutts.codec.encoder.w2v_bert import (  # noqa: E402  # noqa: E402
    ConformerShape,
    SelfAttention,
    W2vBert,
    log_mel,
    stacked_features,
)
from vivavoce.errors import InvalidAudio  # noqa: E402

NOISE = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def test_snake_beta() -> None:
    snake = SnakeBeta(2)
    snake.alpha.data, snake.beta.data = torch.tensor([0.0, 1.0]), torch.tensor([0.5, -0.5])
    x = torch.linspace(-2, 2, 10).expand(1, 2, -1)
    expected = x + torch.sin(x * torch.tensor([[1.0], [np.e]])) ** 2 / torch.tensor(
        [[np.exp(0.5)], [np.exp(-0.5)]]
    )
    torch.testing.assert_close(snake(x), expected.float(), rtol=1e-5, atol=1e-6)


def test_smooth_activation_passes_low_sounds_and_keeps_their_place() -> None:
    module = SmoothActivation(1)
    module.act.beta.data.fill_(20.0)  # next to nothing is added
    x = torch.sin(torch.arange(400) * 0.1)[None, None]
    torch.testing.assert_close(module(x)[..., 10:-10], x[..., 10:-10], atol=1e-2, rtol=0)
    assert low_pass().sum() == pytest.approx(1, abs=1e-6)


def test_smooth_activation_folds_no_high_sounds_down() -> None:
    x = 0.5 * torch.sin(torch.arange(512) * 2 * np.pi * 0.375)[None, None]
    smooth = SmoothActivation(1)
    spectra = [np.abs(np.fft.rfft(y.detach()[0, 0].numpy()[6:-6] * np.hanning(500))) for y in
               (smooth(x), smooth.act(x))]  # fmt: skip
    # sin² of 0.375 has 0.75, which folds to 0.25 without the filters.
    at = round(500 * 0.25)
    assert spectra[0][at - 3 : at + 4].max() < 0.5 * spectra[1][at - 3 : at + 4].max()


def test_semantic_encoder_adds_what_its_first_relu_altered() -> None:
    module = SemanticEncoder(4, 5, 6)
    blocks = torch.nn.Sequential(
        torch.nn.ReLU(inplace=True), module.residual_blocks["1"],
        torch.nn.ReLU(inplace=True), module.residual_blocks["3"],
    )  # fmt: skip
    with torch.inference_mode():
        x = torch.randn(1, 4, 9)
        y = module.initial_conv(x)
        published = module.final_conv(blocks(y) + y)
        torch.testing.assert_close(module(x), published)


def test_lengths_are_whole_codes() -> None:
    with torch.inference_mode():
        sound = torch.randn(1, 1, 320 * 7)
        assert AcousticEncoder(2, 8)(sound).shape == (1, 8, 7)
        small = DistilledShape(widths=(4, 4, 8, 8), hidden=16)
        assert DistilledAcoustic(small)(sound).shape == (1, 7, 16)
        hubert = Hubert(HubertShape(16, 32, 32, 2))
        assert hubert(torch.randn(1, 320 * 7 + 320)).shape == (1, 7, 32)


@pytest.mark.parametrize("count", [3, 4, 9, 17])
def test_local_attention_sees_its_window_and_the_one_before(count: int) -> None:
    window, hidden = 4, 8
    module = LocalAttention(hidden, window)
    bias = torch.randn(HEADS, 2 * window)
    x = torch.randn(1, count, hidden)
    with torch.inference_mode():
        got = module(x, bias)[0].numpy()
        qkv = module.to_qkv(module.norm(x))[0].numpy().reshape(count, 3, HEADS, -1)
        heads = np.zeros((count, HEADS, qkv.shape[-1]))
        for t in range(count):
            seen = [s for s in range(t + 1) if s // window >= t // window - 1]
            for h in range(HEADS):
                scores = [
                    qkv[t, 0, h] @ qkv[s, 1, h] / np.sqrt(2) + bias[h, t - s].item() for s in seen
                ]
                weights = np.exp(scores) / np.exp(scores).sum()
                heads[t, h] = sum(w * qkv[s, 2, h] for w, s in zip(weights, seen, strict=True))
        expected = module.to_out(torch.from_numpy(heads.reshape(count, -1)).float()).numpy()
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_relative_attention_clips_distances() -> None:
    module = SelfAttention(ConformerShape(hidden=8, heads=2))
    x = torch.randn(1, 80, 8)
    with torch.inference_mode():
        got = module(x)[0].numpy()
        q, k, v = (
            layer(x)[0].reshape(80, 2, 4).numpy()
            for layer in (module.linear_q, module.linear_k, module.linear_v)
        )
        table = module.distance_embedding.weight.numpy()
        out = np.zeros((80, 2, 4))
        for t in range(80):
            away = table[np.clip(np.arange(80) - t, -64, 8) + 64]
            for h in range(2):
                scores = np.exp((k[:, h] + away) @ q[t, h] / 2)
                out[t, h] = scores @ v[:, h] / scores.sum()
        expected = module.linear_out(torch.from_numpy(out.reshape(80, 8)).float()).numpy()
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_w2v_bert_hears_the_past_through_its_convolutions_only_backwards() -> None:
    module = W2vBert(ConformerShape(features=6, hidden=8, intermediate=8, heads=2, layers=1))
    layer = module.encoder.layers[0]
    x = torch.randn(1, 50, 8)
    with torch.inference_mode():
        before = layer.conv_module(x)
        x[0, 40] += 1
        changed = (layer.conv_module(x) - before).abs().sum(-1)[0]
    assert changed[:40].max() == 0 and changed[40] > 0


def test_filter_bank_is_kaldis_written_out() -> None:
    frame = NOISE[160:560].astype(np.float64) * 32_768
    frame -= frame.mean()
    emphasised = np.array([f - 0.97 * frame[max(i - 1, 0)] for i, f in enumerate(frame)])
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)) ** 0.85
    power = np.abs(np.fft.fft(emphasised * window, 512)[:257]) ** 2
    mel = [1127 * np.log(1 + hz / 700) for hz in (20, 8000)]
    step = (mel[1] - mel[0]) / 81
    for band in (0, 13, 79):
        centre = mel[0] + (band + 1) * step
        at = 1127 * np.log(1 + np.arange(257) * 31.25 / 700)
        energy = (np.maximum(0, 1 - np.abs(at - centre) / step) * power).sum()
        assert log_mel(NOISE)[1, band] == pytest.approx(np.log(energy), abs=1e-3)


def test_features_are_normal_and_stacked() -> None:
    features = stacked_features(NOISE)
    assert features.shape == (49, 160) and features.dtype == np.float32
    bands = features.reshape(98, 80)
    np.testing.assert_allclose(bands.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(bands.std(0, ddof=1), 1, atol=1e-3)


@pytest.mark.parametrize(("rate_hz", "seconds"), [(16_000, 1.0), (44_100, 0.7), (8_000, 1.01)])
def test_recordings_become_whole_codes(rate_hz: int, seconds: float) -> None:
    sound = np.sin(np.arange(int(rate_hz * seconds)) * 440 * 2 * np.pi / rate_hz)
    made = prepare_recording(sound.astype(np.float32), rate_hz)
    spoken = round(seconds * 16_000)
    assert len(made) % 320 == 0 and 0 <= len(made) - spoken <= 321
    peak = np.argmax(np.abs(np.fft.rfft(made[:8000])))
    assert peak * 2 == pytest.approx(440, abs=2)


def test_a_whole_number_of_codes_still_gets_a_code_of_silence() -> None:
    assert len(prepare_recording(NOISE, 16_000)) == 16_320


@pytest.mark.parametrize(
    ("samples", "rate_hz"),
    [
        (np.zeros((2, 16_000), np.float32), 16_000),
        (np.zeros(16_000, np.int16), 16_000),
        (np.zeros(16_000, np.float32), 16_000),
        (np.full(16_000, np.nan, np.float32), 16_000),
        (np.full(16_000, 9.0, np.float32), 16_000),
        (NOISE[:4000], 16_000),
        (np.tile(NOISE, 61), 16_000),
        (NOISE, 1000),
    ],
)
def test_unusable_recordings_are_refused(samples: np.ndarray, rate_hz: int) -> None:
    with pytest.raises(InvalidAudio):
        prepare_recording(samples, rate_hz)
