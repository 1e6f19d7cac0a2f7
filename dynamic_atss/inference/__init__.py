"""Using a trained model: from a checkpoint to detections in pictures, folders and videos."""
