"""People's own data: a table of samples (CSV, JSON Lines, Parquet) and the files it names."""
