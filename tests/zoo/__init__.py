"""Collections of models that nobody here wrote, run through the product: `python -m tests.zoo`."""
