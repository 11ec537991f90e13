"""What we truly care about: how good a candidate is for its user."""
