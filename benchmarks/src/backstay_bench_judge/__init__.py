"""The judge's benchmark: judges side by side on the same simulated rollouts. No part of the product."""
