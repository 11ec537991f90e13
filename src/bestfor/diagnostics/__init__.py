"""Whether Best-of-N pays: exact curves, quantities, laws and intervals on plain arrays."""
