"""Which orders a prediction averages over, with which weights, and what any order could give."""
