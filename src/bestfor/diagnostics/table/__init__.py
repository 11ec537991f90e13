"""Check and sort rows of candidates, and lay them out as padded pools."""
