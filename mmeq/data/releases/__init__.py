"""Published datasets as they lie on disk: one file a release, and what these files share."""
