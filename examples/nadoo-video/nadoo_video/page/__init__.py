"""The page: choose plans, watch predictions, move the memory while they run."""
