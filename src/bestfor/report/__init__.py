"""A diagnosis as a page, a picture or a terminal summary; nothing is computed here."""
