"""Re-identification: losses, sampling, augmentation, features, ranking and its uncertainty."""
