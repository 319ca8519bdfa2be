"""What is known of an account: its monitors, its budget, and the stores that keep them."""
