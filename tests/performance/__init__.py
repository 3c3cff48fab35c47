"""Speed and memory: our training step by stage, and against TRL's GRPOTrainer."""
