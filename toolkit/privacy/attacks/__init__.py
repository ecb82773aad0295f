"""Feature inversion attacks: what an adversary who sees the wire can get back."""
