"""Code that comes with a checkpoint: whether it may run, how it is imported, and how it goes along with a save.

Nothing is imported here: `import maquette` needs the finder, which stands in this folder, and little else.
"""
