"""The tests of slardar; the folders mirror those of the package."""
