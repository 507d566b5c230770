"""Fusions: features encoded once → logits of any coalition."""
