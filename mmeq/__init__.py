"""mmeq: train multimodal classifiers whose modalities learn in balance; measure that balance."""

__version__ = "0.1.0"
