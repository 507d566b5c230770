"""Data: specs, manifests, splits, the data module, and one file a dataset."""
