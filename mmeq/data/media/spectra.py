"""Spectra of batches of waveforms, and the masks that SpecAugment lays over them.

Shape suffixes: B batch, N samples of a waveform, F frequencies or mel bins, T frames, W window.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

WINDOW_MS, SHIFT_MS = 25.0, 10.0
LOWEST_HZ = 20.0
PREEMPHASIS = 0.97


def spectrogram(waves_BN: Tensor, n_fft: int, hop: int) -> Tensor:
    """Return log(|STFT| + 1e-7), float32 [B, n_fft // 2 + 1, 1 + N // hop].

    Hann window of n_fft samples, frames centred at multiples of hop, silence beyond the ends: the
    features of OGM-GE's released code (librosa.stft with its present defaults) [second-hand].

    Args:
        waves_BN: float32.
        n_fft: even.
        hop: samples between frames.
    """
    spectrum_BFT = torch.stft(
        waves_BN, n_fft, hop, window=torch.hann_window(n_fft), center=True, pad_mode="constant",
        return_complex=True,
    )  # fmt: skip
    return spectrum_BFT.abs().add_(1e-7).log_()


def fbank_sizes(rate: int) -> tuple[int, int]:
    """Window and shift of `fbank` in samples, as Kaldi rounds them.

    Examples:
        >>> fbank_sizes(16000)
        (400, 160)
    """
    return int(rate * WINDOW_MS * 0.001), int(rate * SHIFT_MS * 0.001)


def fbank_frames(count: int, rate: int) -> int:
    """Number of frames of `fbank` that lie wholly within so many samples.

    Examples:
        >>> fbank_frames(163840, 16000)
        1022
    """
    window, shift = fbank_sizes(rate)
    return 0 if count < window else 1 + (count - window) // shift


def fbank(wave_N: Tensor, rate: int, bins: int) -> Tensor:
    """Return log mel filter banks of one waveform, float32 [bins, fbank_frames(N, rate)].

    As ``torchaudio.compliance.kaldi.fbank(wave - wave.mean(), htk_compat=True,
    window_type="hanning", num_mel_bins=bins, dither=0)``, on which AST (Gong et al. 2021) and
    CAV-MAE (Gong et al. 2023) are trained. One waveform at a time, since its frames then stay in
    the cache, and its rounding cannot depend on its batch.

    Args:
        wave_N: float32 in [-1, 1].
        rate: Hz.
        bins: mel bands from 20 Hz to rate / 2.
    """
    window, shift = fbank_sizes(rate)
    if len(wave_N) < window:
        return torch.empty(bins, 0)
    # the order of these steps is Kaldi's: weak bands show how a frame was rounded
    frames_TW = (wave_N - wave_N.mean()).unfold(0, window, shift)
    frames_TW = frames_TW - frames_TW.mean(1, keepdim=True)
    # the first sample of a frame has no weight in the window
    frames_TW[:, 1:] -= frames_TW[:, :-1] * PREEMPHASIS
    frames_TW *= torch.hann_window(window, periodic=False)
    padded = 1 << (window - 1).bit_length()
    spectrum_TF = torch.fft.rfft(frames_TW, padded)[:, :-1]
    power_TF = spectrum_TF.real.square().addcmul_(spectrum_TF.imag, spectrum_TF.imag)
    mel_FT = _mel_bank(bins, padded, rate) @ power_TF.T
    return mel_FT.clamp_min_(torch.finfo(torch.float32).eps).log_()


def spec_augment(
    features_BFT: Tensor, draws_B4: Tensor, freq_mask: int, time_mask: int, fill_B: Tensor
) -> Tensor:
    """Mask one band of frequencies and one stretch of time of every sample, in place.

    A width is uniform from 0 to the limit, a start uniform over the places where the mask fits
    (Park et al. 2019, one mask of each kind, no warping; rounded as in torchaudio).

    Args:
        features_BFT: float32.
        draws_B4: uniform in [0, 1): width and start of the band, width and start of the stretch.
        freq_mask: widest band in bins; 0: none.
        time_mask: longest stretch in frames; 0: none.
        fill_B: what masked places become.

    Returns:
        features_BFT.
    """
    for axis, limit, draws_B2 in ((1, freq_mask, draws_B4[:, :2]), (2, time_mask, draws_B4[:, 2:])):
        size = features_BFT.shape[axis]
        width_B = draws_B2[:, 0] * limit
        start_B = (draws_B2[:, 1] * (size - width_B)).long()
        places = torch.arange(size)
        masked = (places >= start_B[:, None]) & (places < (start_B + width_B.long())[:, None])
        masked = masked[:, :, None] if axis == 1 else masked[:, None, :]
        torch.where(masked, fill_B[:, None, None], features_BFT, out=features_BFT)
    return features_BFT


@lru_cache(maxsize=8)
def _mel_bank(bins: int, padded: int, rate: int) -> Tensor:
    """Triangular filters [F, padded / 2]; the highest frequency has no weight in Kaldi."""
    from torchaudio.compliance.kaldi import get_mel_banks

    return get_mel_banks(bins, padded, float(rate), LOWEST_HZ, 0.0, 100.0, -500.0, 1.0)[0]
