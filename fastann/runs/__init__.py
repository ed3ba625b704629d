"""Results as folders and files."""
