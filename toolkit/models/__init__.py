"""Split re-identification networks: backbones, cut points, edge and cloud halves, checkpoints."""
