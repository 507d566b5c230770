"""Loads models of transformers, timm and torchvision, whole or not at all.

What weights lack would stay random: transformers say which tensors those are, and it is for the
caller to refuse them where they are used; the other two libraries' weights must fit all tensors.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mmeq.encoders.loading import Source, extra, fetch
from mmeq.encoders.pretrained.state import fit, read_state
from mmeq.errors import MmeqError, did_you_mean

PARTS = {"text": "text_config", "image": "vision_config", "video": "vision_config"}
"""Of a model of several kinds (CLIP): the configuration of its part for one kind."""
TIMM_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names that timm gives to weights, in the order looked for."""
CALM = {"layerdrop": 0.0, "encoder_layerdrop": 0.0, "apply_spec_augment": False}
"""Switched off, since a step would leave parameters out, or mask inputs, at random."""


def load_transformers(source: Source) -> tuple[nn.Module, dict[str, Tensor | None]]:
    """Load a transformers model: of CLIP and its like the part for the kind, else the encoder.

    Returns:
        The model in fp32, and the tensors that the weights lack, by name. They hold random
        numbers: the caller must make sure that nothing it uses is among them.

    Raises:
        MmeqError: for weights that are not there, damaged, or of other sizes.
    """
    transformers = extra("transformers")
    config = fetch(source, transformers.AutoConfig.from_pretrained)
    name = PARTS.get(source.kind, "audio_config")
    part = getattr(config, name, None)
    alone = part is not None and type(part) in transformers.MODEL_MAPPING
    config = part if alone else config
    for option, value in CALM.items():
        if hasattr(config, option):
            setattr(config, option, value)

    def call(name: str, **options: Any) -> Any:  # noqa: ANN401
        return transformers.AutoModel.from_pretrained(
            name, config=config, dtype="float32", output_loading_info=True, **options
        )

    model, info = fetch(source, call)
    if any(one.is_meta for one in model.parameters()):
        raise source.refuse("some weights were not loaded")
    tensors = dict(model.named_parameters(remove_duplicate=False))
    missing = {key: tensors.get(key) for key in info["missing_keys"]}
    if part is not None and not alone:  # SigLIP's text model, which has no class of its own
        model = getattr(model, name.replace("_config", "_model"))
    elif getattr(config, "is_encoder_decoder", False):
        model = model.get_encoder()
    return model, missing


def load_timm(source: Source) -> nn.Module:
    """Load a timm model without its classifier.

    timm itself would leave lacking tensors random where it leaves the classifier out, so the
    weights are fitted here into the whole model first.

    Raises:
        MmeqError: for an architecture that timm lacks, and for weights as in `fetch`.
    """
    timm, card = extra("timm"), timm_card(source)
    name, options, file = source.name, {}, source.weights
    if source.folder is not None:
        kept = timm_folder(source)
        name, options = kept["architecture"], kept.get("model_args") or {}
        files = [source.folder / one for one in TIMM_FILES]
        file = next((one for one in files if one.is_file()), files[0])
    elif file is None:
        file = fetch(source, lambda _, **given: _timm_download(source, card, **given))
    state = read_state(file)
    rows = list(state.values())[-1].shape[:1]
    classes = int(rows[0]) if source.weights is not None and rows else card["num_classes"]
    model = timm.create_model(name, pretrained=False, **{**options, "num_classes": classes})
    adjust = getattr(import_module(type(model).__module__), "checkpoint_filter_fn", None)
    if adjust is not None and not set(model.state_dict()) <= set(state):
        state = adjust(state, model)  # as timm does with weights of their authors' own naming
    fit(model, state, f"{source.option}, weights {file}")
    model.reset_classifier(0)
    return model


def timm_folder(source: Source) -> dict[str, Any]:
    """Return what a timm model's folder says of it.

    Raises:
        MmeqError: for an architecture that timm lacks.
    """
    assert source.folder is not None
    kept = dict(json.loads((source.folder / "config.json").read_text(encoding="utf-8")))
    check_timm(source, kept["architecture"])
    return kept


def timm_card(source: Source) -> dict[str, Any]:
    """Return what timm knows of a model: preprocessing, number of classes, place on the hub.

    Raises:
        MmeqError: for an architecture that timm lacks.
    """
    if source.folder is not None:
        kept = timm_folder(source)
        card = dict(kept.get("pretrained_cfg") or {})
        return {"num_classes": kept.get("num_classes", 1000), **card}
    check_timm(source, source.name)
    found = extra("timm").get_pretrained_cfg(source.name)
    return {} if found is None else dict(found.to_dict())


def check_timm(source: Source, name: str) -> None:
    """Refuse an architecture that timm lacks."""
    timm = extra("timm")
    if not timm.is_model(name):
        near = did_you_mean(name, timm.list_models())
        raise MmeqError(f"{source.option}: timm has no model {name!r}" + near)


def _timm_download(source: Source, card: dict[str, Any], **options: Any) -> Path:  # noqa: ANN401
    hub = extra("huggingface_hub")
    if not card.get("hf_hub_id"):
        raise source.refuse("timm has no weights on the hub for it")
    for file in [card["hf_hub_filename"]] if card.get("hf_hub_filename") else TIMM_FILES:
        try:
            return Path(hub.hf_hub_download(card["hf_hub_id"], file, **options))
        except hub.errors.EntryNotFoundError as error:
            lacking = error
    raise lacking


def load_torchvision(source: Source) -> nn.Module:
    """Load a torchvision classifier without its last linear layer.

    Raises:
        MmeqError: for an architecture that torchvision lacks, and for weights as in `fetch`.
    """
    from torch.hub import get_dir, load_state_dict_from_url

    entry = torchvision_weights(source)
    if source.weights is not None:
        state = read_state(source.weights)
    else:

        def call(_: str, local_files_only: bool) -> Any:  # noqa: ANN401
            kept = Path(get_dir()) / "checkpoints" / entry.url.rpartition("/")[2]
            if local_files_only and not kept.is_file():
                raise MmeqError(f"no file {kept.name} in torch's cache")
            return load_state_dict_from_url(entry.url, check_hash=True, progress=False)

        state = fetch(source, call)
    models = import_module("torchvision.models")
    last_rows = list(state.values())[-1].shape[:1]
    plain = {"init_weights": False} if source.name in ("googlenet", "inception_v3") else {}
    model = models.get_model(source.name, weights=None, num_classes=int(last_rows[0]), **plain)
    fit(model, state, source.option)
    last = [name for name, one in model.named_modules() if isinstance(one, nn.Linear)][-1]
    model.set_submodule(last, nn.Identity())
    return model


def torchvision_weights(source: Source) -> Any:  # noqa: ANN401 - an entry of an enum
    """Return torchvision's own entry of default weights, with their preprocessing."""
    models = import_module("torchvision.models")
    names = models.list_models(models)
    if source.name not in names:
        raise MmeqError(
            f"{source.option}: torchvision has no such model" + did_you_mean(source.name, names)
        )
    return models.get_model_weights(source.name).DEFAULT
