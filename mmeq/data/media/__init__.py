"""Media on disk: what a clip is, how it is decoded, kept, and turned into a batch, by kind."""
