"""Training: one config, one jitted step over a mesh, checkpoints that survive anything."""
