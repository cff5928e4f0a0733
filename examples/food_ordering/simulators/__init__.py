"""The people around the application: customers, restaurants and drivers. They know topics, and nothing else of it."""

from food_ordering.simulators._customers import Customers
from food_ordering.simulators._drivers import Drivers
from food_ordering.simulators._restaurants import Restaurants

__all__ = ["Customers", "Drivers", "Restaurants"]
