"""Which channel of which tensor belongs to which other: a trace that follows every channel by name."""
