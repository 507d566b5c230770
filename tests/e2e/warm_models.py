"""The warm process of `warm` with the libraries of large backbones imported too. Not a test."""

import peft  # noqa: F401 - imported to be there after the fork
import torchvision  # noqa: F401
from e2e import warm
from transformers import (  # noqa: F401
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
    BertModel,
    BertTokenizer,
    LlamaModel,
    ViTImageProcessor,
    ViTModel,
)

if __name__ == "__main__":
    warm.main()
