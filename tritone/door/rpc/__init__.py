"""The gRPC half of the front door."""
