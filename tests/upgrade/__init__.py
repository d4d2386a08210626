"""The upgrade in place, part by part."""
