"""Files that go into a folder for Transformers as they are: what a model's code finds there in the place of ours."""
