"""A causal language model as the shared body of all modalities."""

from mmeq.encoders.llm.encoder import LLMEncoder as LLMEncoder
