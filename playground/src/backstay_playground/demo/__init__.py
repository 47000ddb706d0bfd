"""The main job on real components: the demo, the rollback benchmark, and what the end-to-end tests share with them."""
