"""Encoders: each learns its kind, and a sample's features do not depend on its batch."""

import pytest
import torch
from torch.nn import functional as F

from mmeq.data.spec import Modality
from mmeq.encoders.image import ImageEncoder
from mmeq.encoders.sequence import SequenceEncoder
from mmeq.encoders.text import TextEncoder, hash_text
from mmeq.encoders.vector import VectorEncoder

D = 8


def make(kind, count=120, seed=0):
    """An encoder, inputs of two classes that its kind can tell apart, labels."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(2, (count,), generator=generator)
    torch.manual_seed(0)
    if kind == "vector":
        x = torch.randn(count, 6, generator=generator)
        x[:, 0] += 2 * label
        return VectorEncoder(Modality("m", kind, (6,)), D), x, label
    if kind == "image":
        x = torch.randint(256, (count, 3, 24, 24), generator=generator, dtype=torch.uint8)
        x[label == 1, 0, :, ::2] = 255  # stripes
        return ImageEncoder(Modality("m", kind, (3, 24, 24)), D, channels=8, blocks=3), x, label
    if kind == "text":
        words = [["running cats", "a cat runs"], ["blue stones", "the stone, blue"]]
        texts = [words[c][i % 2] + " " * (i % 3) for i, c in enumerate(label.tolist())]
        encoder = TextEncoder(Modality("m", kind), D, hidden=16)
        return encoder, encoder.transform(texts, False, generator), label
    length = torch.randint(4, 20, (count,), generator=generator)
    values = torch.randn(count, 20, 3, generator=generator)
    values[:, :, 0] += (label * 2 - 1)[:, None] * torch.sin(torch.arange(20.0))
    encoder = SequenceEncoder(Modality("m", kind, (20, 3)), D, hidden=16, layers=2)
    return encoder, {"values": values, "length": length}, label


def rows(x, pick):
    return {k: v[pick] for k, v in x.items()} if isinstance(x, dict) else x[pick]


KINDS = ["vector", "image", "text", "sequence"]


@pytest.mark.parametrize("kind", KINDS)
def test_learns_and_ends_in_the_common_width(kind):
    encoder, x, label = make(kind)
    head = torch.nn.Linear(D, 2)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        features = encoder(x)
        assert features.shape == (len(label), D)
        F.cross_entropy(head(features), label).backward()
        optimizer.step()
    assert all(p.grad is not None for p in encoder.parameters())
    encoder.eval()
    assert (head(encoder(x)).argmax(1) == label).float().mean() > 0.85


@pytest.mark.parametrize("kind", KINDS)
def test_independent_of_batch_mates(kind):
    encoder, x, label = make(kind, count=9)
    encoder.eval()
    together = encoder(x)
    alone = torch.cat([encoder(rows(x, slice(k, k + 1))) for k in range(len(label))])
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)


def test_padding_does_not_count():
    encoder, x, _ = make("sequence", count=5)
    encoder.eval()
    longer = torch.cat([x["values"], torch.full((5, 7, 3), 9.0)], dim=1)
    torch.testing.assert_close(encoder({**x, "values": longer}), encoder(x))
    encoder, _, _ = make("text", count=2)
    encoder.eval()
    generator = torch.Generator()
    short = encoder.transform(["a cat"], False, generator)
    both = encoder.transform(["a cat", "a much longer text about stones"], False, generator)
    torch.testing.assert_close(encoder(both)[:1], encoder(short))


def test_hash_shares_ngrams_and_never_gives_the_padding():
    one, two = set(hash_text("walking", 4096, 3, 5)), set(hash_text("walked", 4096, 3, 5))
    assert one & two
    assert 0 not in one | two
    assert hash_text("", 4096, 3, 5) == ()


@pytest.mark.parametrize("texts", [[""], ["", "a"], ["…"]])
def test_odd_texts_have_features(texts):
    encoder, _, _ = make("text", count=2)
    encoder.eval()
    assert torch.isfinite(encoder(encoder.transform(texts, False, torch.Generator()))).all()


def test_augmentation_is_for_training_and_follows_its_generator():
    encoder, x, _ = make("image", count=6)
    assert encoder.transform(x, False, torch.Generator()) is x
    first, second, other = (
        encoder.transform(x, True, torch.Generator().manual_seed(s)) for s in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert first.dtype == torch.uint8
    assert first.shape == x.shape
