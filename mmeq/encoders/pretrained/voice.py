"""The d-vector of a voice: the recurrent speaker encoder whose weights Resemblyzer brings.

Shape suffixes: B batch, N samples, T mel frames, W windows, F mel bands, H width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.functional import melscale_fbanks

RATE, BANDS, WIDTH, LAYERS = 16000, 40, 256, 3
SHIFT, FFT = 160, 400
"""Samples: 10 ms from frame to frame, 25 ms of each."""
WINDOW, STEP = 160, 77
"""Frames of a window, and from one to the next (1.3 a second)."""
LOUDNESS = -30.0
"""dBFS that quieter clips are raised to."""
COVERED = 0.75
"""Of its last window that a clip must fill for it to count."""


class Voice(nn.Module):
    """GE2E speaker encoder (Wan et al. 2018, arXiv 1710.10467): mel windows → [B, 256].

    An LSTM of 3 layers; its last state, a linear layer, ReLU, and unit length; the mean over a
    clip's windows of 1.6 s, to unit length again. As Resemblyzer's own ``embed_utterance``, but for
    its removal of silences, which needs a voice detector.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(BANDS, WIDTH, LAYERS, batch_first=True)
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, mels_BWTF: Tensor, count_B: Tensor) -> Tensor:
        """Features [B, 256] of mel windows, the first `count_B` of a clip being real."""
        batch, windows = mels_BWTF.shape[:2]
        state = last_state(self.lstm, mels_BWTF.flatten(0, 1))
        each = F.normalize(self.linear(state[-1]).relu().float(), dim=1, eps=1e-6)
        each_BWH = each.view(batch, windows, WIDTH)
        real_BW = torch.arange(windows, device=each.device) < count_B.clamp_min(1)[:, None]
        return F.normalize((each_BWH * real_BW[:, :, None]).sum(1), dim=1, eps=1e-6)


def last_state(lstm: nn.LSTM, x_NTF: Tensor) -> Tensor:
    """Return the last state of every layer, [layers, N, H].

    In float32 on a CPU, whatever the precision: oneDNN has no LSTM in half precision for processors
    without instructions for it, and raises.
    """
    if x_NTF.device.type != "cpu":
        return lstm(x_NTF)[1][0]
    with torch.autocast("cpu", enabled=False):
        if lstm.weight_ih_l0.dtype == torch.float32:
            return lstm(x_NTF.float())[1][0]
        whole = {name: p.float() for name, p in lstm.named_parameters()}
        return torch.func.functional_call(lstm, whole, (x_NTF.float(),))[1][0].to(x_NTF.dtype)


def windows_of(samples: int) -> int:
    """Return how many windows a clip has: those it fills by three quarters, and the first."""
    frames = math.ceil((samples + 1) / SHIFT)
    count = len(range(0, max(1, frames - WINDOW + STEP + 1), STEP))
    covered = (samples - (count - 1) * STEP * SHIFT) / (WINDOW * SHIFT)
    return count - 1 if covered < COVERED and count > 1 else count


def mel_windows(waves_BN: Tensor, lengths: list[int]) -> dict[str, Tensor]:
    """Return ``{"mels": float32 [B, W, 160, 40], "count": int64 [B]}`` of waveforms at 16 kHz.

    Args:
        waves_BN: in [-1, 1], zero from a clip's length on.
        lengths: B.
    """
    total = windows_of(waves_BN.shape[1])
    mel_40 = melscale_fbanks(
        FFT // 2 + 1, 0.0, RATE / 2, BANDS, RATE, norm="slaney", mel_scale="slaney"
    )
    size = ((total - 1) * STEP + WINDOW) * SHIFT
    raised = torch.zeros(len(waves_BN), max(size, waves_BN.shape[1]))
    for row, length in enumerate(lengths):
        wave = waves_BN[row, :length]
        rms = wave.double().square().mean().sqrt().item() if length else 0.0
        short = LOUDNESS - 20 * math.log10(rms) if rms > 0 else 0.0
        raised[row, :length] = wave * 10 ** (max(short, 0.0) / 20)
    spectrum = torch.stft(
        raised, FFT, SHIFT, window=torch.hann_window(FFT), pad_mode="constant", return_complex=True
    )
    mels_BTF = spectrum.abs().square().transpose(1, 2) @ mel_40
    mels = torch.stack([mels_BTF[:, k * STEP : k * STEP + WINDOW] for k in range(total)], dim=1)
    counts = torch.tensor([windows_of(length) for length in lengths], dtype=torch.int64)
    return {"mels": mels, "count": counts.clamp_max(total)}
