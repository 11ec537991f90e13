"""What writes candidates: language models conditioned on or tuned to a user."""
