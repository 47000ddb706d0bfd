"""What the controller, the model servers and training agree on; it imports nothing but the standard library."""
