"""How good models are: scores of whole frames, side by side, and the report."""
