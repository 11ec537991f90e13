"""Write candidates by language models, conditioned on or tuned to a user."""
