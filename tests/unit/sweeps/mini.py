"""A sweep that is small enough for a test."""

PHASE = {"epochs": 1, "identities": 6, "augmentations": 1, "precision": "fp32", "learning_rate": 1e-3}
BASE = {
    "data": {"kind": "fleet", "fleet": {"size": 64, "identities_train": 12, "identities_test": 4,
                                        "pictures_per_identity": 4}},
    "picture": {"height": 32, "width": 32},
    "model": {"backbone": "resnet18", "cut": "layer2", "width": 0.125},
    "train": PHASE,
    "patrol": {"train": PHASE, "lipschitz": {"alpha": 1e-4},
               "adversary": {"beta": 0.01, "decoders": ["residual_n1c8"], "warmup_steps": 1}},
    "slim": {"finetune": {"train": PHASE, "lipschitz": None, "adversary": None}, "plan": {"align": 1}},
    "attack": {
        "attackers": [
            {"kind": "ridge"},
            {"kind": "inverse_network", "decoder": "subpixel_n1c16", "steps": 4, "batch": 8, "precision": "fp32"},
        ],
        "leaks": {"contents": ["background", "camera"], "recogniser": {"steps": 3}, "required": 0.01},
        "minimum_test": 1, "minimum_train": 1, "certificate_scenes": 0,
    },
}  # fmt: skip
L1 = {"prune": "scores", "set": {"slim": {"scores": {"criterion": "l1", "budget": 0.5, "half": "edge"}}}}
METHODS = {
    "dense": {},
    "shallow": {"set": {"model": {"cut": "layer1"}}},
    "l1": L1,
    "patrol": {"prune": "masks"},
    "device": {"wire": "embedding"},
}


def mini(**changes):
    """The body of a sweep's YAML."""
    return {"name": "mini", "budget": "layer1", "base": BASE, "methods": METHODS} | changes
