"""torch: tensors, and the shards of distributed ones, filled with the values of `fastinit.fill`."""
