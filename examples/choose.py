"""Choose the initializer of a deep network: what theory recommends, and what three candidates do."""

import fastinit as fi

DEPTH, WIDTH = 20, 64

for activation in ("relu", "tanh"):
    best = fi.recommend(activation, depth=DEPTH, width=WIDTH).init
    print(f"{activation}: {best}")
    for init in (best, fi.xavier_normal(), fi.normal(std=0.01)):
        result = fi.propagate(init, depth=DEPTH, width=WIDTH, activation=activation)
        print(f"  {init}: {result.verdict}")
