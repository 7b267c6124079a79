"""From a text, an image or a sound to an answer in plain Python: one object for preprocessing, model and answer."""
