"""For those who write parts of slardar, or parts for it: what their tests need."""
