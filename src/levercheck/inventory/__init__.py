"""A reading tool for results folders of any origin: what is there, what is broken, which numbers rest on data."""

from levercheck.inventory.report import Inventory, inventory
from levercheck.inventory.walk import Limits

__all__ = ["Inventory", "Limits", "inventory"]
