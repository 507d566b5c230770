"""What the questions share: sweeps as YAML, runs in forks, a line a run, table and figure."""
