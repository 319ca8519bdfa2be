"""Federated learning: who may send, how far one client moves the model, and whom the server comes to distrust."""
