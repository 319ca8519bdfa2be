"""What ``medward doctor`` looks at: the libraries of a host, and a deployment as ``medward serve`` would open it."""
