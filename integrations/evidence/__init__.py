"""Evidence that others can check: a report signed over a bundle, its bill of materials, its threats and its changes."""
