"""What the Keras and the Flax half of the conformance kit share: both examine models whose weights are arrays.

No framework is imported here. A half supplies a `Subject` with the hooks that `subject.ArraySubject` lists.
"""
