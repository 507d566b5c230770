"""Transformers of texts and sequences: they learn order, mask padding, and see no batch mates."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmeq.data.spec import Modality
from mmeq.encoders.transformer import SequenceTransformer, TextTransformer, positions
from mmeq.errors import MmeqError

D, SMALL = 8, {"width": 32, "heads": 4, "layers": 2, "feedforward": 64}
TEXTS = ["a cat ran", "the blue stones of the river", "", "…", "don't!", "Straße naïve 漢字"]


def text(**options):
    torch.manual_seed(0)
    return TextTransformer(Modality("m", "text"), D, **{**SMALL, "buckets": 4096, **options})


def sequence(**options):
    torch.manual_seed(0)
    return SequenceTransformer(Modality("m", "sequence", (12, 3)), D, **{**SMALL, **options})


def hashed(encoder, texts):
    return encoder.transform(texts, False, torch.Generator())


def sequences(count=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    length = torch.randint(1, 13, (count,), generator=generator)
    return {"values": torch.randn(count, 12, 3, generator=generator), "length": length}


def both():
    encoder = text()
    return [(encoder, hashed(encoder, TEXTS)), (sequence(), sequences())]


def rows(x, pick):
    return {key: value[pick] for key, value in x.items()}


def learns(encoder, x, label):
    head = nn.Linear(D, 2)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        F.cross_entropy(head(encoder(x)), label).backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())
    encoder.eval()
    return lambda new: head(encoder(new)).argmax(1)


def test_text_learns_what_only_order_tells():
    generator = torch.Generator().manual_seed(0)
    names = ["dog", "cat", "cow", "fox", "owl", "hen", "rat", "bee"]

    def drawn(count):
        label = torch.randint(2, (count,), generator=generator)
        texts = []
        for one in label.tolist():
            a, b = (names[k] for k in torch.randperm(6, generator=generator)[:2])
            pair = ["bites", "flees"][:: 1 if one else -1]
            texts.append(f"{a} {pair[0]} and {b} {pair[1]}")
        return texts, label

    texts, label = drawn(128)
    encoder = text(dropout=0.0)
    answer = learns(encoder, hashed(encoder, texts), label)
    new, wanted = drawn(64)
    assert (answer(hashed(encoder, new)) == wanted).float().mean() > 0.9


def test_sequence_learns_what_only_order_tells():
    def drawn(seed):
        x = sequences(128, seed)
        x["length"] = x["length"].clamp_min(4)
        label = torch.arange(128) % 2
        x["values"] = 0.2 * x["values"]
        for row, one in enumerate(label.tolist()):  # two pulses, in one order or the other
            x["values"][row, 0, one] += 2
            x["values"][row, int(x["length"][row]) - 1, 1 - one] += 2
        return x, label

    answer = learns(sequence(dropout=0.0), *drawn(0))
    new, wanted = drawn(1)
    assert (answer(new) == wanted).float().mean() > 0.9


@pytest.mark.parametrize("training", [False, True])
def test_independent_of_batch_mates(training):
    for encoder, x in both():
        encoder.train(training)
        for module in encoder.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            if isinstance(module, nn.MultiheadAttention):
                module.dropout = 0.0
        count = len(next(iter(x.values())))
        alone = torch.cat([encoder(rows(x, slice(k, k + 1))) for k in range(count)])
        assert alone.shape == (count, D)
        torch.testing.assert_close(alone, encoder(x), atol=1e-5, rtol=1e-4)


def test_padding_does_not_count():
    encoder = sequence().eval()
    x = sequences()
    wild = x["values"].clone()
    for row, length in enumerate(x["length"].tolist()):
        wild[row, length:] = float("inf")
    longer = torch.cat([wild, torch.full((5, 7, 3), float("nan"))], 1)
    torch.testing.assert_close(encoder({**x, "values": longer}), encoder(x), atol=1e-5, rtol=1e-4)
    words = text().eval()
    short, among = hashed(words, ["a cat"]), hashed(words, ["a cat", "an incomprehensibility " * 9])
    assert among["ids"].shape[1:] > short["ids"].shape[1:]
    torch.testing.assert_close(words(among)[:1], words(short), atol=1e-5, rtol=1e-4)


def test_equals_a_transformer_written_out():
    """Attention, feed-forward and pooling by formula, for one sequence of full length."""
    encoder = sequence(layers=1).eval()
    x = {"values": torch.randn(1, 6, 3), "length": torch.tensor([6])}
    layer = encoder.layers.layers[0]
    heads, width = SMALL["heads"], SMALL["width"]
    angle = torch.arange(6)[:, None] / 10000 ** (torch.arange(width // 2) / (width // 2))
    h = encoder.embed(x["values"][0]) + torch.cat([angle.sin(), angle.cos()], 1)
    normed = layer.norm1(h)
    qkv = normed @ layer.self_attn.in_proj_weight.T + layer.self_attn.in_proj_bias
    q, k, v = (one.view(6, heads, -1).transpose(0, 1) for one in qkv.chunk(3, -1))
    weights = (q @ k.transpose(1, 2) / math.sqrt(width / heads)).softmax(-1)
    h = h + layer.self_attn.out_proj((weights @ v).transpose(0, 1).reshape(6, width))
    h = h + layer.linear2(F.gelu(layer.linear1(layer.norm2(h))))
    want = encoder.project(h.mean(0))
    torch.testing.assert_close(encoder(x)[0], want, atol=1e-5, rtol=1e-4)


def test_words_are_means_of_their_pieces():
    encoder = text(ngrams=(3, 3))
    ids = hashed(encoder, ["Walks, walk!"])["ids"]
    assert ids.shape == (1, 4, 6)  # <walks>: the word and 5 n-grams
    walks, walk = (set(ids[0, place].tolist()) - {0} for place in (0, 2))
    assert len(walks & walk) == 3  # <wa, wal, alk
    assert (ids[0, 1] != 0).sum() == 2  # a comma: the token and its one n-gram, bounded
    assert torch.equal(ids, hashed(encoder, ["wALKS,\n  walk !"])["ids"])
    pieces = encoder.table.weight[ids[0, 0]]
    torch.testing.assert_close(encoder.table(ids[0])[0], pieces.mean(0))
    comma = encoder.table.weight[ids[0, 1, :2]]
    torch.testing.assert_close(encoder.table(ids[0])[1], comma.mean(0))
    assert int(ids.max()) < 4096


def test_hash_is_the_same_everywhere():
    """A trained table is worth nothing under another hash: these rows are fixed for good."""
    ids = hashed(text(buckets=32768, ngrams=(3, 3)), ["cat"])["ids"]
    assert ids.tolist() == [[[2763, 30970, 104, 21035]]]


def test_texts_are_cut_and_long_words_are_few_pieces():
    encoder = text(max_tokens=5)
    assert hashed(encoder, ["word " * 100])["ids"].shape[1] == 5
    assert hashed(encoder, ["x" * 5000])["ids"].shape[2] < 100


@pytest.mark.parametrize("texts", [[""], ["", "a"], [" \n", "\x00"]])
def test_odd_texts_have_features(texts):
    encoder = text()
    features = encoder(hashed(encoder, texts))
    features.square().sum().backward()
    assert features.isfinite().all()
    assert all(p.grad.isfinite().all() for p in encoder.parameters())


def test_absent_samples_have_finite_features_and_gradients():
    encoder, x = sequence(), sequences()
    x["values"][1:3], x["length"][1:3] = 0, 0
    features = encoder(x)
    features.square().sum().backward()
    assert features.isfinite().all()
    assert all(p.grad.isfinite().all() for p in encoder.parameters())


def test_padding_row_of_the_table_never_learns():
    encoder = text()
    encoder(hashed(encoder, TEXTS)).square().sum().backward()
    assert encoder.table.weight.grad[0].abs().sum() == 0
    assert encoder.table.weight[0].abs().sum() == 0


def test_runs_in_bfloat16():
    for encoder, x in both():
        encoder.eval()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            lower = encoder(x)
        assert lower.dtype == torch.bfloat16
        torch.testing.assert_close(lower.float(), encoder(x), atol=0.1, rtol=0.1)
        encoder.train()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            encoder(x).float().square().sum().backward()
        assert all(p.grad.isfinite().all() for p in encoder.parameters())


def test_positions_tell_steps_apart_whatever_the_length():
    table = positions(4000, torch.zeros(1, 64))
    assert table.shape == (4000, 64)
    assert torch.cdist(table[:200], table[:200]).add(torch.eye(200)).min() > 0.5
    assert torch.equal(table[:10], positions(10, torch.zeros(1, 64)))


@pytest.mark.parametrize(
    ("make", "options", "says"),
    [
        (text, {"width": 30}, r"text\.width=30: give an even multiple of heads=4"),
        (sequence, {"width": 5, "heads": 5}, r"sequence\.width=5"),
        (sequence, {"layers": 0}, r"sequence\.layers=0"),
        (text, {"heads": 0}, r"text\.heads=0"),
        (text, {"dropout": 1.5}, r"text\.dropout=1\.5"),
        (text, {"buckets": 1}, r"text\.buckets=1"),
        (text, {"max_tokens": 0}, r"text\.max_tokens=0"),
        (text, {"ngrams": [4, 3]}, r"text\.ngrams=\[4, 3\]"),
    ],
)
def test_refuses_what_makes_no_network(make, options, says):
    with pytest.raises(MmeqError, match=says):
        make(**options)
