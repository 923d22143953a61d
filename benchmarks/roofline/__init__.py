"""What bounds a network on a device, kernel by kernel."""
