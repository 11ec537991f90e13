"""Measure the four quantities, the laws and the ledger that follow from them."""
