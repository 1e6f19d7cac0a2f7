"""Uses a trained model to detect objects in pictures, folders and videos."""
