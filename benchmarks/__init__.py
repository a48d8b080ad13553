"""Measurements: the framework beside the bare libraries at the same work, in the same run."""
