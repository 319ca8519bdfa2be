"""What leaves: output filters, none of which changes a diagnosis, and how many bits they let through."""
