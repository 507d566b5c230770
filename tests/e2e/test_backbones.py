"""Large backbones by commands: runs are resumed, opened again and trained by two processes.

The models are tiny ones of the usual classes, saved to folders as the hub has them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from e2e.running import PLAIN, Warm, checkpoint, difference, results
from e2e.test_ranks import held
from e2e.test_resume import assert_same_run
from omegaconf import OmegaConf

from mmeq.config.reopen import find_models

transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")
RESNET = "resnet18.pth"
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "face",
    "cat",
    "man",
    "woman",
    "hand",
    "with",
]
WORDS += ["person", "flag", "heart", "clock", "in", "medium", "dark", "light", "skin", "button"]
WIDTHS = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "initializer_range": 0.3,
}
EMOJI = ("dataset=emoji", "dataset.size=16", "dataset.train_size=48", "batch_size=16")
EMOJI += ("dataset.fractions=[0.9,0.05,0.05]", "backbone.dim=16", "callbacks.console=null")


def write_models(root: Path) -> None:
    t = transformers
    torch.manual_seed(0)
    places = {word: k for k, word in enumerate(WORDS)}
    tokenizer = t.BertTokenizer(vocab=places)
    llama = t.LlamaConfig(
        **WIDTHS, vocab_size=len(WORDS), num_key_value_heads=1, pad_token_id=0, bos_token_id=2
    )
    text = {**WIDTHS, "vocab_size": len(WORDS), "max_position_embeddings": 32}
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    t.LlamaForCausalLM(llama).save_pretrained(root / "llama")
    t.BertModel(t.BertConfig(**text)).save_pretrained(root / "bert")
    t.BertModel(t.BertConfig(**text, **still)).save_pretrained(root / "bert-still")
    for name in ("llama", "bert", "bert-still"):
        tokenizer.save_pretrained(root / name)
        (root / name / "vocab.txt").write_text("\n".join(WORDS))
    t.ViTModel(t.ViTConfig(**WIDTHS, image_size=16, patch_size=8)).save_pretrained(root / "vit")
    t.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(root / "vit")


class WarmModels(Warm):
    """One process with the libraries of models, which every command would import by itself."""

    serves = "e2e.warm_models"


@pytest.fixture(scope="module")
def warm():
    process = WarmModels()
    yield process
    process.close()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    write_models(root)
    return root


def llm(root: Path, tune: str, *more: str) -> list[str]:
    given = ["backbone=llm", f"backbone.encoders.text.model={root / 'llama'}"]
    return [
        *given,
        f"backbone.encoders.text.tune={tune}",
        *more,
        "backbone.encoders.image.hidden=16",
    ]


def pretrained(root: Path, text: str, image: str, *more: str, bert: str = "bert") -> list[str]:
    return [
        "backbone=pretrained",
        f"backbone.encoders.text.model={root / bert}",
        f"backbone.encoders.image.model={root / 'vit'}",
        "backbone.encoders.text.max_tokens=16",
        f"backbone.encoders.text.tune={text}",
        f"backbone.encoders.image.tune={image}",
        *more,
    ]


def resnet(root: Path) -> list[str]:
    import torchvision

    torch.manual_seed(1)
    torch.save(torchvision.models.resnet18().state_dict(), root / RESNET)
    small = ["width=16", "heads=2", "feedforward=16", "buckets=64"]
    return [
        "backbone=resnet18",
        f"backbone.encoders.image.weights={root / RESNET}",
        *(f"backbone.encoders.text.{one}" for one in small),
        "optim.optimizer._target_=torch.optim.SGD",  # small checkpoints
    ]


ADAPTER_DROPOUT = "backbone.encoders.text.lora.dropout=0.3"
RUNS = {
    "llm lora": lambda root: llm(root, "lora", ADAPTER_DROPOUT),
    "llm full, shared, watched": lambda root: llm(
        root, "full", "callbacks=tuning", "callbacks.tuning.every=2"
    ),
    "pretrained frozen, lora": lambda root: pretrained(root, "frozen", "lora", ADAPTER_DROPOUT),
    "pretrained full, head": lambda root: pretrained(root, "full", "head"),
    "resnet18": resnet,
}


def opened(warm, run: Path, *options: str) -> None:
    """Evaluated and predicted as the run has it."""
    here = [f"run={run}", "accelerator=cpu", *options]
    again = warm("mmeq.eval", *here, cwd=run.parent)
    assert "agrees with results.json exactly" in again.stdout, again.stdout + again.stderr
    done = warm("mmeq.predict", *here, "output=found.npz", cwd=run.parent)
    assert done.status == 0, done.stderr
    with np.load(run.parent / "found.npz") as found, np.load(run / "predictions/test.npz") as told:
        assert np.array_equal(found["logits"], told["logits"])
        assert told["logits"].std() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("case", RUNS)
def test_a_run_goes_on_and_is_opened_again(case, models, warm, tmp_path):
    """Resumed it equals an undisturbed one to the last bit; so do its figures and predictions."""
    options = [*EMOJI, f"cache={tmp_path / 'cache'}", *RUNS[case](models)]
    options += ["optim.scheduler.T_max=2", "optim.optimizer.lr=3e-3"]
    whole = warm.train(tmp_path / "whole", *options, "trainer.max_epochs=2")
    parts = warm.train(tmp_path / "parts", *options, "trainer.max_epochs=1")
    warm.train(parts, f"resume={parts}", "trainer.max_epochs=2")
    assert_same_run(whole, parts)
    (models / RESNET).unlink(missing_ok=True)  # of what training began with a checkpoint has all
    opened(warm, parts)


def test_models_that_were_moved_are_named_and_found_again(models, warm, tmp_path):
    """Not those of the same name with other weights."""
    here = shutil.copytree(models, tmp_path / "here")
    options = [*EMOJI, f"cache={tmp_path / 'cache'}", *pretrained(here, "frozen", "lora")]
    run = warm.train(tmp_path / "run", *options, "trainer.max_epochs=1")
    bodies = [key for key in checkpoint(run)["state_dict"] if ".body." in key]
    assert bodies
    assert all("lora_" in key for key in bodies)
    here.rename(tmp_path / "there")
    for command in (("mmeq.eval",), ("mmeq.predict", "output=p.npz")):
        lost = warm(*command, f"run={run}", "accelerator=cpu", cwd=tmp_path)
        assert lost.status == 2
        assert f"backbone.encoders.image.model={here / 'vit'}: there is no such" in lost.stderr
        assert "give model_root=<the folder that it lies in now>" in lost.stderr
    opened(warm, run, "model_root=there")
    for root, says in (("nowhere", "there is no such folder"), ("run", "(bert, vit, ")):
        refused = warm("mmeq.eval", f"run={run}", f"model_root={root}", cwd=tmp_path)
        assert refused.status == 2
        assert f"model_root={root}: " in refused.stderr
        assert says in refused.stderr
    shutil.copytree(models / "bert-still", tmp_path / "other" / "bert")
    change(tmp_path / "other" / "bert")
    shutil.copytree(models / "vit", tmp_path / "other" / "vit")
    refused = warm("mmeq.eval", f"run={run}", "model_root=other", "accelerator=cpu", cwd=tmp_path)
    assert refused.status == 2
    assert "backbone.encoders.text were trained over another model" in refused.stderr


def test_of_a_moved_path_the_longest_end_that_is_there_counts(tmp_path):
    for name in ("text/model", "image/model", "lite.pth"):
        (tmp_path / name).mkdir(parents=True)
    given = {
        "text": {"model": "/old/text/model", "weights": None},
        "image": {"model": "~/image/model", "weights": "../lite.pth"},
        "audio": {"model": "package://resemblyzer/model", "weights": None},
        "video": {"model": "openai/clip", "weights": None},
    }
    target = "mmeq.encoders.pretrained.PretrainedEncoder"
    nodes = {kind: {"_target_": target, **node} for kind, node in given.items()}
    trained = OmegaConf.create({"backbone": {"encoders": nodes}})
    find_models(trained, tmp_path)
    encoders = trained.backbone.encoders
    assert encoders.text.model == str(tmp_path / "text" / "model")
    assert encoders.image.model == str(tmp_path / "image" / "model")
    assert encoders.image.weights == str(tmp_path / "lite.pth")
    assert encoders.audio.model == given["audio"]["model"]
    assert encoders.video.model == given["video"]["model"]


def change(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    state["encoder.layer.1.output.dense.bias"][3] += 1e-3
    save_file(state, folder / "model.safetensors", {"format": "pt"})


# two processes

STILL = ("backbone.encoders.text.dropout=0.0", "optim.clip_norm=null", "trainer.max_epochs=1")
STILL += ("optim.optimizer._target_=torch.optim.SGD", "optim.optimizer.lr=0.01")
STILL += ("trainer.limit_train_batches=2", "backbone.encoders.text.lora.dropout=0.0")
RECOMPUTED = "backbone.encoders.text.checkpointing=true"
STEPS = {
    "llm lora, joint, recomputed": lambda root: [
        *llm(root, "lora", "backbone.encoders.image.augment=false", RECOMPUTED), "method=joint",
    ],
    "llm lora, shapley": lambda root: [
        *llm(root, "lora", "backbone.encoders.image.augment=false"), "method=shapley",
    ],
    "pretrained full, lora, joint": lambda root: [
        *pretrained(root, "full", "lora", bert="bert-still"), "method=joint",
    ],
    "pretrained lora, full, shapley, recomputed": lambda root: [
        *pretrained(root, "lora", "full", RECOMPUTED, bert="bert-still"), "method=shapley",
    ],
}  # fmt: skip


@pytest.mark.parametrize("case", STEPS)
def test_two_processes_do_what_one_does(case, models, warm, tmp_path):
    """Without dropout, whose draws differ by rank; the same samples in each step.

    Half a batch is padded to another length and summed in another order: last bits differ, and the
    second step sees more of it.
    """
    ends = []
    for ranks in (2, 1):
        folder = tmp_path / f"ranks-{ranks}"
        options = [*EMOJI, *PLAIN, *STILL, *STEPS[case](models), f"batch_size={32 // ranks}"]
        options += [f"trainer.devices={ranks}"]
        done = warm("e2e.ranks", folder, *options, cwd=tmp_path, ranks=ranks)
        assert done.status == 0, done.stderr
        ends.append(held(folder, 0))
    other = held(tmp_path / "ranks-2", 1)
    two, one = ends
    for part in ("weights", "order", "report"):
        assert difference(two[part], other[part], part) is None
    assert one["gradients"].keys() == two["gradients"].keys()
    assert any("lora_B" in name for name in one["gradients"])
    for part in ("gradients", "weights"):
        for name, tensor in one[part].items():
            most = 1e-7 + 1e-3 * tensor.abs().max().item()
            torch.testing.assert_close(two[part][name], tensor, atol=most, rtol=0, msg=name)
    told = [results(tmp_path / f"ranks-{ranks}")["test"]["values"] for ranks in (2, 1)]
    assert told[0].keys() == told[1].keys()
    for name, value in told[0].items():
        assert value == pytest.approx(told[1][name], abs=1e-5), name
