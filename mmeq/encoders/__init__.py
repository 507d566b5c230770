"""Encoders, one file a family: raw inputs of one modality → features of the common width."""
