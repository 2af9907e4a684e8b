"""What one run is: configuration, event store, loader, training loop, metrics and run records."""
