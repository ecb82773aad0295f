"""What an adversary who sees the wire can get back: attacks, similarity, anchors, leaks by name, bounds."""
