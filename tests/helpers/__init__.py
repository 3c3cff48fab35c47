"""What tests share: a tiny chat model, a problem set with reachable rewards, batches, and throw-away methods."""
