"""The networks of the CIFAR literature."""
