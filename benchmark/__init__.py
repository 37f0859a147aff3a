"""Put a method and a dataset together: train, tune, predict, score and rank."""
