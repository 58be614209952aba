"""Recurrent models of characters."""
