"""What tests share: a tiny chat model, a problem set with reachable rewards, throw-away methods."""
