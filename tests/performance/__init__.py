"""Speed and memory: our training step by station, and against TRL's GRPOTrainer."""
