"""What a trained model is worth on frames, and what it says about new ones."""
