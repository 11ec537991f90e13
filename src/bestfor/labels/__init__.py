"""Labels that people give, of every kind: how they are kept, and what a reward model learns from each."""
