"""mmeq: train multimodal classifiers whose modalities learn in balance, and measure that balance."""

__version__ = "0.1.0"
