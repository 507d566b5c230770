"""Each class of mistake is found before anything is read, with what would be right."""

from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir

from mmeq.config import conf_dir, validate
from mmeq.errors import MmeqError


def configuration(*overrides):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("train", overrides=list(overrides))


def complaint(*overrides):
    with pytest.raises(MmeqError) as caught:
        validate(configuration(*overrides))
    return str(caught.value)


def test_the_default_is_valid():
    validate(configuration())


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        # names
        (["+method.wieght=1"], "no option method.wieght; did you mean 'weight'"),
        (["+group.typo=1"], "there is no option group"),
        (["fusion=memory", "+fusion.cel=lstm"], "did you mean 'cell'"),
        (["+backbone.encoders.vector.hiden=3"], "did you mean 'hidden'"),
        (["+backbone.dimm=3"], "did you mean 'dim'"),
        (["+optim.optimizer.lrr=1"], "did you mean 'lr'"),
        (["+optim.scheduler.t_max=1"], "did you mean 'T_max'"),
        (["+optim.clipnorm=1"], "did you mean 'clip_norm'"),
        (["+trainer.max_epoch=1"], "did you mean 'max_epochs'"),
        (["+callbacks.record.nams=1"], "no option callbacks.record.nams"),
        (["+callbacks.mine.every=1"], "callbacks.mine names no _target_"),
        (["logger=wandb", "+logger.wandb.projct=x"], "did you mean 'project'"),
        (["logger=[csv,wandb]", "+logger.csv.nam=x"], "logger.csv.nam; did you mean 'name'"),
        (["logger=wandb", "+logger.csv.name=x"], "logger.csv names no _target_"),
        (["fusion._target_=mmeq.fusions.memory.Memry"], "did you mean 'Memory'"),
        (["fusion._target_=os.system"], "is not allowed"),
        (["+dataset.modalitys=[fou]"], "did you mean 'modalities'"),
        # what mmeq supplies itself
        (["+fusion.dim=3"], "fusion.dim is no option: mmeq sets it itself"),
        (["+method.seed=3"], "method.seed is no option"),
        # types
        (["seed=abc"], "seed='abc' does not fit: give a whole number"),
        (["seed=1.5"], "seed=1.5 does not fit"),
        (["batch_size=true"], "batch_size=True does not fit"),
        (["method.refresh=2"], "give true or false"),
        (["method.weight=much"], "give a number"),
        (["fusion=memory", "fusion.cell=residul"], "did you mean 'residual'"),
        (["inference=hybird"], "did you mean 'hybrid'"),
        (
            ["fusion=concat", "inference=sampled"],
            "inference=sampled changes nothing, since the fusion (Concat) has no order: give "
            "inference=auto, or a fusion that has one, such as fusion=memory",
        ),
        (["method=mla", "inference=router"], "the method (Mla) answers by heads of its own"),
        (["strategy.orders=7"], "strategy.orders=7: orders are drawn in pairs"),
        (["strategy.certainty=-1"], "strategy.certainty=-1"),
        (["strategy.confidence=entropi"], "did you mean 'entropy'"),
        (["+strategy.order=4"], "did you mean 'orders'"),
        (["optim.optimizer.lr=fast"], "optim.optimizer.lr='fast' does not fit: give a number"),
        (["backbone.encoders.text.ngrams=[3]"], "give a list of 2"),
        (["optim.clip_norm=x"], "give a number or null"),
        (["logger=wandb", "logger.wandb.mode=ofline"], "logger.wandb.mode='ofline' does not fit"),
        # missing
        (["method=unimodal"], "method.modality has no default: give method.modality="),
        (["~method.order", "~seed"], "seed is missing"),
        (["~optim.accumulate"], "optim.accumulate is missing"),
        # references
        (["name=${nowhere}"], "nowhere"),
        # ranges
        (["seed=-1"], "seed=-1 is too small"),
        (["batch_size=0"], "batch_size=0 is too small"),
        (["trainer.max_epochs=0"], "trainer.max_epochs=0 is too small"),
        (["optim.clip_norm=0"], "optim.clip_norm=0"),
        (["optim.optimizer.lr=-1"], "Invalid learning rate"),
        (["method.ema=1"], "method.ema"),
        (["trainer.devices=0"], "trainer.devices=0"),
        (["trainer.devices=two"], "trainer.devices='two'"),
        (["callbacks.scheduler.subset=1.5"], "callbacks.scheduler.subset=1.5: give a share"),
        (["callbacks.scheduler.subset=0"], "callbacks.scheduler.subset=0"),
        (["callbacks.monitor.patience=1"], "callbacks.monitor.patience=1: give 4 or more"),
        (["callbacks.missing.rates=[1.0]"], "callbacks.missing.rates=1.0: give a rate"),
        (["missing=1"], "missing=1: give a rate from 0 up to"),
        (["missing=often"], "missing='often' does not fit: give a number"),
        (["missing={train: -0.1}"], "missing.train=-0.1"),
        (["modality_dropout=1.0"], "modality_dropout=1.0: give a rate"),
        (["modality_dropout=null"], "modality_dropout=None does not fit"),
        # combinations
        (["missing={fuo: 0.5}"], "missing names the unknown modality 'fuo'; did you mean 'fou'"),
        (["missing={train: {fuo: 0.5}}"], "missing.train names the unknown modality 'fuo'"),
        (["missing={train: 0.1, fou: 0.5}"], "give parts only"),
        (["modality_dropout={fuo: 0.5}"], "modality_dropout names the unknown modality"),
        (["callbacks.missing.unequal=[{fuo: 0.5}]"], "callbacks.missing.unequal names"),
        (["method=unimodal", "method.modality=fuo"], "did you mean 'fou'"),
        (["dataset.modalities=[fou]"], "needs 2 modalities or more"),
        (["monitor=test/accuracy"], "never chosen by its test part"),
        (["monitor=val/acuracy"], "did you mean 'val/accuracy'"),
        (["trainer.precision=16-mixed"], "take bf16-mixed"),
        (["+trainer.max_steps=9"], "set trainer.max_epochs"),
        (["+trainer.gradient_clip_val=1"], "set optim.clip_norm"),
        (["+trainer.accumulate_grad_batches=2"], "set optim.accumulate"),
        (["+trainer.strategy=fsdp"], "FSDP and DeepSpeed do not work"),
        (["+trainer.callbacks=[]"], "choose callbacks="),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes(overrides, said):
    assert said in complaint(*overrides)


def test_a_choice_that_changes_nothing_is_not_held_against_a_run_that_is_there():
    cfg = configuration("fusion=concat", "inference=hybrid")
    validate(cfg, begun=True)
    with pytest.raises(MmeqError, match="inference=hybrid changes nothing"):
        validate(cfg)


def test_all_mistakes_are_told_together():
    said = complaint("seed=abc", "fusion=memory", "fusion.cell=gru", "+method.x=1")
    assert said.startswith("3 mistakes")
    for part in ("seed='abc'", "fusion.cell='gru'", "method.x"):
        assert part in said


def test_hybrid_inference_is_refused_for_many_modalities():
    many = "dataset.modalities=[a,b,c,d,e,f,g]"
    tree = configuration(many, "inference=hybrid")
    from mmeq.config.combinations import modalities
    from mmeq.config.validate import plain_tree

    class Seven:
        modalities = tuple("abcdefg")

    problems = modalities(plain_tree(tree), Seven())
    assert any("inference=hybrid walks all 7! orders" in problem for problem in problems)


def test_a_kind_that_the_backbone_lacks_is_named():
    from mmeq.config.combinations import modalities
    from mmeq.config.validate import plain_tree

    class Film:
        modalities = ("clip", "words")
        kinds = {"clip": "video", "words": "text"}  # noqa: RUF012

    tree = plain_tree(configuration())
    assert modalities(tree, Film()) == []
    del tree["backbone"]["encoders"]["video"]
    problems = modalities(tree, Film())
    assert any("modality 'clip'" in p and "kind 'video'" in p for p in problems)
    assert not any("words" in p for p in problems)


def test_callbacks_and_schedule_can_be_switched_off():
    validate(configuration("callbacks.figures=null", "optim.scheduler=null"))
