"""Searches decided by a certificate: rounded operands screen, float64 decides."""
