"""Git as a program: clones, commits, keys and signatures, without any knowledge of models."""
