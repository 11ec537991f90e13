"""Look beyond the curve: larger pools, the best fixed N, other rules, and how much data is needed."""
