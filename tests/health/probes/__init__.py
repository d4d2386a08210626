"""What the probes of heartbeats send, and what they make of the answers."""
