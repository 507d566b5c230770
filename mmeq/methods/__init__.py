"""Methods: what one training batch does to encoders and fusion. One file a method."""
